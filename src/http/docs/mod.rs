//! The OpenAPI description and the page that shows it.

mod problems;

use axum::Router;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_swagger_ui::SwaggerUi;

use super::cookies;
use super::error::Problem;
use crate::app::App;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Evenkeel",
        description = "A storefront that stays upright while its data is \
        migrated. Money is an integer in the minor unit of its currency.\n\nEvery error is a problem document \
        (RFC 9457), but for those without a body that are answered before a request has been read: 400 to what is \
        not HTTP, 414 and 431 to a head that is too large. Not listed with every operation are 404 for an address \
        that does not exist, 405 (with `Allow`), and 406 for a client that accepts no encoding at all."
    ),
    components(schemas(Problem))
)]
struct Base;

/// The description to which every domain adds its addresses. `over_tls`: clients reach the service over TLS.
pub fn base(over_tls: bool) -> OpenApi {
    let mut api = <Base as utoipa::OpenApi>::openapi();
    let components = api.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let cookie = ApiKey::Cookie(ApiKeyValue::new(cookies::session_name(over_tls)));
    components.add_security_scheme("cookie", SecurityScheme::ApiKey(cookie));
    api
}

/// Serves `api` as JSON and as a page, with every problem that its operations can answer with.
pub fn pages(mut api: OpenApi) -> Router<App> {
    problems::complete(&mut api);
    SwaggerUi::new("/api/docs")
        .url("/api/openapi.json", api)
        .into()
}
