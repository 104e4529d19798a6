//! The OpenAPI description and the page that shows it.

use axum::Router;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa_swagger_ui::SwaggerUi;

use super::cookies;
use super::error::Problem;
use crate::app::App;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Evenkeel",
        description = "A storefront that stays upright while its data is \
        migrated. Money is an integer in the minor unit of its currency."
    ),
    components(schemas(Problem))
)]
struct Base;

/// The description to which every domain adds its addresses.
pub fn base() -> OpenApi {
    let mut api = <Base as utoipa::OpenApi>::openapi();
    let components = api.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let cookie = ApiKey::Cookie(ApiKeyValue::new(cookies::SESSION));
    components.add_security_scheme("cookie", SecurityScheme::ApiKey(cookie));
    api
}

/// Serves `api` as JSON and as a page. Every operation may also answer with a problem document,
/// which is said here once.
pub fn pages(mut api: OpenApi) -> Router<App> {
    let problem = ResponseBuilder::new()
        .description("A problem document (RFC 9457)")
        .content(
            "application/problem+json",
            ContentBuilder::new()
                .schema(Some(Ref::from_schema_name("Problem")))
                .build(),
        )
        .build();
    for path in api.paths.paths.values_mut() {
        let operations = [
            &mut path.get,
            &mut path.post,
            &mut path.put,
            &mut path.delete,
        ];
        for operation in operations.into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            responses.insert("default".to_owned(), RefOr::T(problem.clone()));
        }
    }
    SwaggerUi::new("/api/docs")
        .url("/api/openapi.json", api)
        .into()
}
