//! What a description says of every operation alike: the problems that it can answer with, as far as they
//! follow from what it takes (whatever has a body can be sent too much of it), their headers, and the bounds of
//! numbers. What is an operation's own (409, for example) stands at its handler.

use axum::http::StatusCode;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{Object, OpenApi, Ref, RefOr, Response, ResponseBuilder, Schema, Type};

use crate::http::error::PROBLEM;

/// Status, and what it says whatever the operation.
const PROBLEMS: [(u16, &str); 9] = [
    (400, "The request cannot be read"),
    (
        401,
        "Nobody is logged in, or the token is not the operations token",
    ),
    (
        404,
        "There is nothing of this name or number, or nothing that the caller may see",
    ),
    (408, "The body did not arrive in time"),
    (413, "The body is larger than the service reads"),
    (415, "The body is not said to be JSON, or is encoded"),
    (
        422,
        "Readable, but a field is not as it has to be; `errors` names each",
    ),
    (500, "A fault of this service"),
    (503, "Too busy, or the database does not answer"),
];

/// Adds to every operation of `api` the problems that it can answer with, and to every answer its headers.
pub(super) fn complete(api: &mut OpenApi) {
    let components = api.components.get_or_insert_default();
    for (status, description) in PROBLEMS {
        let mut response = ResponseBuilder::new().description(description).build();
        finish(&mut response, status);
        components
            .responses
            .insert(name(status), RefOr::T(response));
    }
    for item in api.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.post,
            &mut item.put,
            &mut item.delete,
        ];
        for operation in operations.into_iter().flatten() {
            bound_numbers(operation);
            for (status, _) in PROBLEMS {
                if can_answer(operation, status) {
                    let responses = &mut operation.responses.responses;
                    let shared = Ref::from_response_name(name(status));
                    responses
                        .entry(status.to_string())
                        .or_insert(RefOr::Ref(shared));
                }
            }
            for (status, response) in &mut operation.responses.responses {
                let status = status.parse().unwrap_or_default();
                if let RefOr::T(response) = response {
                    finish(response, status);
                }
            }
        }
    }
}

/// Things are numbered from 1, as far as a floating-point number holds every whole one: clients in JavaScript
/// have no others.
fn bound_numbers(operation: &mut Operation) {
    let parameters = operation.parameters.iter_mut().flatten();
    for parameter in parameters {
        if let RefOr::T(parameter) = parameter
            && parameter.parameter_in == ParameterIn::Path
            && let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema
            && schema.schema_type == SchemaType::new(Type::Integer)
        {
            schema.minimum = Some(1_usize.into());
            schema.maximum = Some(((1_usize << 53) - 1).into());
        }
    }
}

fn name(status: u16) -> String {
    format!("Problem{status}")
}

/// Whether `operation` can answer with `status`, to judge by what it takes.
fn can_answer(operation: &Operation, status: u16) -> bool {
    let parameters = operation.parameters.iter().flatten();
    let mut parameters = parameters.filter_map(|parameter| match parameter {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(_) => None,
    });
    let mut takes = |place| parameters.any(|Parameter { parameter_in, .. }| *parameter_in == place);
    let takes_body = operation.request_body.is_some();
    match status {
        400 => takes_body || parameters.next().is_some(),
        401 => operation.security.is_some(),
        404 => takes(ParameterIn::Path),
        408 | 413 | 415 => takes_body,
        422 => takes_body || takes(ParameterIn::Query),
        _ => true,
    }
}

/// Adds to a response with this status what every one with it has.
fn finish(response: &mut Response, status: u16) {
    if response.description.is_empty() {
        let phrase = StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason());
        response.description = phrase.unwrap_or_default().to_owned();
    }
    if status >= 400 {
        let schema = Ref::from_schema_name("Problem");
        let problem = ContentBuilder::new().schema(Some(schema)).build();
        response
            .content
            .entry(PROBLEM.to_owned())
            .or_insert(problem.into());
    }
    let mut add = |name: &str, header: Header| {
        response
            .headers
            .entry(name.to_owned())
            .or_insert(header.into());
    };
    let text = |description: &str| HeaderBuilder::new().description(Some(description)).build();
    add("X-Request-Id", text("Under which the request is logged"));
    match status {
        401 => add("WWW-Authenticate", text("`Bearer`")),
        429 | 503 => {
            let seconds = Header::new(Object::with_type(Type::Integer));
            add("Retry-After", seconds);
        }
        _ => {}
    }
}
