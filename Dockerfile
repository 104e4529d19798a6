# The shop in a container. Its database is elsewhere: set DATABASE_URL.

FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked

FROM debian:bookworm-slim
RUN useradd --system --user-group --no-create-home evenkeel
COPY --from=build /source/target/release/evenkeel /usr/local/bin/evenkeel
USER evenkeel
WORKDIR /
ENV EVENKEEL_HTTP__LISTEN=0.0.0.0:8080
ENV EVENKEEL_OPS__LISTEN=0.0.0.0:8081
EXPOSE 8080
EXPOSE 8081
ENTRYPOINT ["evenkeel"]
CMD ["serve"]
