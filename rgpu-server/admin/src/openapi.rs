//! The description of what is served, for programs that make clients of it.

use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::{health, leases, routes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "rgpud",
        description = "Administration of a GPU server: what runs, for whom and on what; leases of vGPUs; metrics. Everything under /v1 wants a \
                       tenant's token, and shows what is that tenant's; one with the role `admin` sees all."
    ),
    paths(
        health::livez,
        health::readyz,
        health::scrape,
        routes::sessions,
        routes::end_session,
        routes::tenants,
        routes::devices,
        routes::queue,
        routes::profiles,
        routes::reload,
        leases::list,
        leases::grant,
        leases::renew,
        leases::end,
    ),
    modifiers(&Bearer)
)]
struct Api;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

pub(crate) fn document() -> Document {
    Api::openapi()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_path_is_described() {
        let text = super::document().to_json().unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (path, method) in [
            ("/livez", "get"),
            ("/readyz", "get"),
            ("/metrics", "get"),
            ("/v1/sessions", "get"),
            ("/v1/sessions/{id}", "delete"),
            ("/v1/tenants", "get"),
            ("/v1/devices", "get"),
            ("/v1/queue", "get"),
            ("/v1/profiles", "get"),
            ("/v1/reload", "post"),
            ("/v1/leases", "get"),
            ("/v1/leases", "post"),
            ("/v1/leases/{id}", "put"),
            ("/v1/leases/{id}", "delete"),
        ] {
            assert!(
                document["paths"][path][method].is_object(),
                "{method} {path}"
            );
        }
        let wish = &document["components"]["schemas"]["LeaseWish"];
        assert_eq!(
            wish["required"],
            serde_json::json!(["holder", "ttl_seconds"])
        );
    }
}
