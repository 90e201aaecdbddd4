//! Requests that object_store has no call for, signed as its own.

use crate::error::Problem;
use crate::http::{Outgoing, unwrapped};
use http::{Method, Request};
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::HttpRequestBody;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// S3 signs names in which all but letters, digits and these are escaped.
const NAME: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const PATH: &AsciiSet = &NAME.remove(b'/');

pub(super) fn address(bucket: &str, name: &str, query: &[(&str, &str)]) -> String {
    let mut address = format!("{bucket}/{}", utf8_percent_encode(name, PATH));
    if name.is_empty() {
        // The bucket itself.
        address.pop();
    }
    for (at, (field, value)) in query.iter().enumerate() {
        let mark = if at == 0 { '?' } else { '&' };
        let value = utf8_percent_encode(value, NAME);
        address.push_str(&format!("{mark}{field}={value}"));
    }
    address
}

pub(super) fn signed(
    method: Method,
    address: &str,
    body: &str,
    credential: Option<&AwsCredential>,
    region: &str,
) -> Result<Request<Outgoing>, Problem> {
    let mut request = Request::builder()
        .method(method)
        .uri(address)
        .body(HttpRequestBody::from(body.to_owned()))
        .map_err(|error| Problem::Nonsense(format!("the address of the request: {error}")))?;
    if let Some(credential) = credential {
        AwsAuthorizer::new(credential, "s3", region)
            .try_authorize(&mut request, None)
            .map_err(unwrapped)?;
    }
    Ok(request.map(|_| Outgoing::bytes(body.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_escaped() {
        let bucket = "http://h:9000/b";
        assert_eq!(address(bucket, "", &[]), "http://h:9000/b");
        assert_eq!(
            address(bucket, "in/ü +/", &[]),
            "http://h:9000/b/in/%C3%BC%20%2B/"
        );
        assert_eq!(
            address(bucket, "", &[("list-type", "2"), ("prefix", "a b&c=/")]),
            "http://h:9000/b?list-type=2&prefix=a%20b%26c%3D%2F"
        );
    }

    #[test]
    fn the_secret_is_in_no_part_of_a_request() {
        let credential = AwsCredential {
            key_id: "AKIA".into(),
            secret_key: "PRIVATE".into(),
            token: None,
        };
        let request = signed(
            Method::GET,
            "http://h/b?uploads=",
            "",
            Some(&credential),
            "eu",
        );
        let (parts, _) = request.unwrap().into_parts();
        assert!(
            parts.headers["authorization"]
                .to_str()
                .unwrap()
                .contains("AKIA")
        );
        assert!(!format!("{parts:?}").contains("PRIVATE"));
    }
}
