//! What a token says, once its signature is believed: for whom it is, how long it holds, whose it is and which role that is. Pure.

use serde_json::{Map, Value};

use super::{Failure, Identity, Issuer, invalid};
use crate::policy::Principal;

/// Bytes of a person's name.
const MAX_NAME: usize = 256;

/// # Errors
/// Why it does not hold.
pub fn identify(
    claims: &Map<String, Value>,
    issuer: &Issuer,
    now: u64,
) -> Result<Identity, Failure> {
    // One issuer, exactly: the standard has no lists of them.
    if claims.get("iss").and_then(Value::as_str) != Some(&issuer.issuer) {
        return invalid("its `iss` is another issuer");
    }
    let is_for_us = texts(claims.get("aud"))
        .iter()
        .any(|audience| issuer.audience.iter().any(|ours| ours == audience));
    if !is_for_us {
        return invalid(format!(
            "it is not for this server: its `aud` has none of {}",
            issuer.audience.join(", ")
        ));
    }
    let expires = check_times(claims, issuer.leeway.as_secs(), now)?;
    let name = user(claims, issuer)?;
    let rules = issuer.rules.iter().filter(|rule| {
        let is_scope = rule.claim == "scope";
        texts(find(claims, &rule.claim)).iter().any(|text| {
            // The one claim that is a list in one text (RFC 8693 section 4.2).
            *text == rule.value || is_scope && text.split(' ').any(|one| one == rule.value)
        })
    });
    let role = rules.map(|rule| rule.role).max().or(issuer.default_role);
    let role = role.ok_or_else(|| {
        Failure::Stranger(format!(
            "{} has no role here; ask an administrator for one of the groups that have",
            issuer.name
        ))
    })?;
    Ok(Identity {
        principal: Principal::Person {
            name: format!("{}:{name}", issuer.name).into(),
            role,
        },
        expires,
    })
}

/// Until when it holds, in seconds since 1970.
fn check_times(claims: &Map<String, Value>, leeway: u64, now: u64) -> Result<u64, Failure> {
    let (now, leeway) = (now as f64, leeway as f64);
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        // Of a year that exists: what is beyond is a mistake, or meant to hold for ever.
        Some(value) => match value.as_f64() {
            Some(time) if (0.0..1e11).contains(&time) => Ok(Some(time)),
            _ => invalid(format!("its `{name}` is no time")),
        },
    };
    let Some(expires) = time("exp")? else {
        return invalid("it has no `exp`: tokens that hold for ever are not taken");
    };
    if expires + leeway <= now {
        return invalid("it has expired; get a new one");
    }
    for name in ["nbf", "iat"] {
        if time(name)?.is_some_and(|from| from > now + leeway) {
            return invalid(format!(
                "it holds only from later on (`{name}`); are the clocks right?"
            ));
        }
    }
    Ok(expires as u64)
}

fn user<'a>(claims: &'a Map<String, Value>, issuer: &Issuer) -> Result<&'a str, Failure> {
    let claim = &issuer.user_claim;
    let name = find(claims, claim).and_then(Value::as_str).unwrap_or("");
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return invalid(format!(
            "its `{claim}`, which names the person, is missing or not 1 to {MAX_NAME} bytes of text"
        ));
    }
    // Anybody can claim to have an address.
    let is_verified = claims.get("email_verified") == Some(&Value::Bool(true));
    if claim == "email" && !is_verified {
        return invalid("its `email` is not verified by the issuer");
    }
    Ok(name)
}

/// A claim by its name, or inside others by a JSON pointer: `/realm_access/roles`.
fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let Some(path) = name.strip_prefix('/') else {
        return claims.get(name);
    };
    let (first, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
    let first = first.replace("~1", "/").replace("~0", "~");
    claims.get(&first)?.pointer(rest)
}

/// A text, or the texts of a list.
fn texts(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oidc::{Rule, Source};
    use crate::policy::Role;
    use serde_json::json;
    use std::time::Duration;

    const NOW: u64 = 1_800_000_000;

    fn issuer() -> Issuer {
        let rule = |claim: &str, value: &str, role| Rule {
            claim: claim.into(),
            value: value.into(),
            role,
        };
        Issuer {
            name: "idp".into(),
            issuer: "https://idp.example".into(),
            audience: vec!["faas".into(), "other".into()],
            source: Source::File("/nowhere".into()),
            algorithms: vec![],
            user_claim: "sub".into(),
            rules: vec![
                rule("groups", "admins", Role::Administrator),
                rule("groups", "lookers", Role::Viewer),
                rule("/realm_access/roles", "gpu", Role::User),
                rule("scope", "faas:use", Role::User),
                rule("https://x.org/roles", "a", Role::User),
            ],
            default_role: None,
            leeway: Duration::from_secs(60),
            refresh: Duration::ZERO,
            keep: Duration::ZERO,
        }
    }

    fn with(changes: Value) -> Result<(String, Role), Failure> {
        with_issuer(changes, &issuer())
    }

    fn with_issuer(changes: Value, issuer: &Issuer) -> Result<(String, Role), Failure> {
        let mut claims = json!({
            "iss": "https://idp.example", "aud": "faas", "sub": "ann", "exp": NOW + 300, "groups": "admins",
        });
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => claims.as_object_mut().unwrap().remove(name),
                value => claims
                    .as_object_mut()
                    .unwrap()
                    .insert(name.clone(), value.clone()),
            };
        }
        let identity = identify(claims.as_object().unwrap(), issuer, NOW)?;
        let Principal::Person { name, role } = identity.principal else {
            panic!("{identity:?}")
        };
        Ok((name.to_string(), role))
    }

    #[test]
    fn a_person_has_the_issuers_name_before_its_own() {
        assert_eq!(with(json!({})), Ok(("idp:ann".into(), Role::Administrator)));
        for bad in [
            json!(null),
            json!(""),
            json!(7),
            json!("a\nb"),
            json!("x".repeat(300)),
            json!(["ann"]),
        ] {
            assert!(
                matches!(with(json!({ "sub": bad })), Err(Failure::Invalid(_))),
                "{bad}"
            );
        }
        let mut by_mail = issuer();
        by_mail.user_claim = "email".into();
        let mail = |verified: Value| {
            with_issuer(
                json!({ "email": "a@x.org", "email_verified": verified }),
                &by_mail,
            )
        };
        assert_eq!(mail(json!(true)).unwrap().0, "idp:a@x.org");
        for no in [json!(null), json!(false), json!("true")] {
            assert!(mail(no).is_err());
        }
    }

    #[test]
    fn issuer_and_audience_must_be_ours() {
        for iss in [
            json!(null),
            json!("https://idp.example/"),
            json!("http://idp.example"),
            // A list with ours in it is no issuer.
            json!(["https://evil.example", "https://idp.example"]),
            json!(7),
        ] {
            assert!(
                matches!(with(json!({ "iss": iss })), Err(Failure::Invalid(_))),
                "{iss}"
            );
        }
        for aud in [json!("other"), json!(["x", "faas"])] {
            assert!(with(json!({ "aud": aud })).is_ok(), "{aud}");
        }
        for aud in [
            json!(null),
            json!("faa"),
            json!([]),
            json!(["x"]),
            json!({"faas": 1}),
            json!([["faas"]]),
        ] {
            assert!(
                matches!(with(json!({ "aud": aud })), Err(Failure::Invalid(_))),
                "{aud}"
            );
        }
    }

    #[test]
    fn times_are_checked_with_leeway() {
        for good in [
            json!({ "exp": NOW - 59 }),
            json!({ "exp": (NOW as f64) + 0.5 }),
            json!({ "nbf": NOW + 60, "iat": NOW + 60 }),
        ] {
            assert!(with(good.clone()).is_ok(), "{good}");
        }
        for bad in [
            json!({ "exp": null }),
            json!({ "exp": NOW - 60 }),
            json!({ "exp": 0 }),
            json!({ "exp": -5 }),
            json!({ "exp": 1e300 }),
            json!({ "exp": u64::MAX }),
            json!({ "exp": (NOW + 300).to_string() }),
            json!({ "nbf": NOW + 61 }),
            json!({ "iat": NOW + 61 }),
            json!({ "nbf": "soon" }),
        ] {
            assert!(
                matches!(with(bad.clone()), Err(Failure::Invalid(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn roles_come_from_claims_and_the_highest_counts() {
        let role = |changes| with(changes).map(|(_, role)| role);
        assert_eq!(
            role(json!({ "groups": ["lookers", "x"] })),
            Ok(Role::Viewer)
        );
        assert_eq!(
            role(json!({ "groups": ["lookers", "admins"] })),
            Ok(Role::Administrator)
        );
        let nested = json!({ "groups": null, "realm_access": { "roles": ["gpu"] } });
        assert_eq!(role(nested), Ok(Role::User));
        let scope = json!({ "groups": null, "scope": "openid faas:use" });
        assert_eq!(role(scope), Ok(Role::User));
        let url = json!({ "groups": null, "https://x.org/roles": ["a"] });
        assert_eq!(role(url), Ok(Role::User));
        // Only a scope is a list in one text.
        for none in [
            json!({ "groups": null }),
            json!({ "groups": "x admins" }),
            json!({ "groups": "Admins" }),
            json!({ "groups": { "admins": true } }),
            json!({ "groups": null, "realm_access": "gpu" }),
        ] {
            assert!(
                matches!(role(none.clone()), Err(Failure::Stranger(_))),
                "{none}"
            );
        }
        let mut open = issuer();
        open.default_role = Some(Role::Viewer);
        let nobody = with_issuer(json!({ "groups": null }), &open).unwrap();
        assert_eq!(nobody.1, Role::Viewer);
        // The default is for those without a role, not beside one.
        open.default_role = Some(Role::Administrator);
        let looker = with_issuer(json!({ "groups": "lookers" }), &open).unwrap();
        assert_eq!(looker.1, Role::Viewer);
    }
}
