//! What Kubernetes takes as a name, a label, an image and a quantity, so that a mistake is told before its API is asked.
//! (Documentation: "Object Names and IDs", "Labels and Selectors", "Annotations", "Images".)

/// The longest name of a label, and of a job, whose pods have it as a label.
pub const MAX_LABEL: usize = 63;
const MAX_SUBDOMAIN: usize = 253;
/// The longest reference of an image that is taken.
const MAX_IMAGE: usize = 512;
/// All annotations of one object, with their names.
const MAX_ANNOTATIONS: usize = 256 << 10;
/// Names before a slash that belong to Kubernetes and to this runner.
const RESERVED: [&str; 2] = ["kubernetes.io", "rgpu.io"];
/// Labels that controllers set themselves.
const CONTROLLERS: [&str; 2] = ["controller-uid", "job-name"];

/// `[a-z0-9]([-a-z0-9]*[a-z0-9])?`
pub fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=MAX_LABEL).contains(&text.len())
        && text.bytes().all(|byte| inner(byte) || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Labels with dots between: the name of most objects.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= MAX_SUBDOMAIN && text.split('.').all(is_label)
}

/// `PREFIX/NAME`, or `NAME` alone: the name of a label, an annotation or a resource.
pub fn is_qualified(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_value(name) && !name.is_empty(),
        None => is_value(text) && !text.is_empty(),
    }
}

/// A label's value.
pub fn is_value(text: &str) -> bool {
    let end = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    text.len() <= MAX_LABEL
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && end(text.bytes().next())
        && end(text.bytes().last())
}

/// Whether a pod may ask for a resource of this name beside cpu and memory.
pub fn is_resource(text: &str) -> bool {
    // A quota's name for it, `requests.NAME`, must be one too.
    is_qualified(text)
        && text.split_once('/').is_some_and(|(prefix, name)| {
            !is_of(prefix, "kubernetes.io") && name.len() <= MAX_LABEL && prefix.len() <= 244
        })
}

fn is_of(prefix: &str, domain: &str) -> bool {
    prefix == domain
        || prefix
            .strip_suffix(domain)
            .is_some_and(|front| front.ends_with('.'))
}

/// A label or an annotation that a function brings along: not one that others set.
pub fn is_free(name: &str) -> bool {
    let prefix = name.split_once('/').map(|(prefix, _)| prefix);
    !CONTROLLERS.contains(&name)
        && !prefix.is_some_and(|prefix| RESERVED.iter().any(|domain| is_of(prefix, domain)))
}

/// Why these cannot be an object's labels.
pub fn check_labels<'a>(
    labels: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<(), String> {
    for (name, value) in labels {
        check_key("label", name)?;
        if !is_value(value) {
            return Err(format!(
                "label {name}: {value:?} has more than {MAX_LABEL} characters, or others than letters, digits, - _ and ., or one of those at an end; \
                 what is longer can be an annotation"
            ));
        }
    }
    Ok(())
}

/// Why these cannot be an object's annotations.
pub fn check_annotations<'a>(
    annotations: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<(), String> {
    let mut size = 0;
    for (name, value) in annotations {
        check_key("annotation", name)?;
        size += name.len() + value.len();
    }
    if size > MAX_ANNOTATIONS {
        return Err(format!(
            "annotations have {size} bytes together; Kubernetes takes {MAX_ANNOTATIONS}"
        ));
    }
    Ok(())
}

fn check_key(what: &str, name: &str) -> Result<(), String> {
    if !is_qualified(name) {
        return Err(format!(
            "{what} {name:?}: a name has 1 to {MAX_LABEL} letters, digits, - _ and ., with a letter or digit at both ends, and before it perhaps DOMAIN/"
        ));
    }
    if !is_free(name) {
        return Err(format!(
            "{what} {name}: this name is set by Kubernetes or by the runner"
        ));
    }
    Ok(())
}

/// Why this is no image's reference: `[HOST[:PORT]/]PATH[:TAG][@ALGORITHM:HEX]`.
pub fn check_image(image: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("image {image:?}: {why}"));
    if image.is_empty() || image.len() > MAX_IMAGE {
        return wrong(&format!("a reference has 1 to {MAX_IMAGE} characters"));
    }
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    if let Some(digest) = digest {
        let is_digest = digest.split_once(':').is_some_and(|(algorithm, hex)| {
            !algorithm.is_empty()
                && algorithm.bytes().all(|byte| byte.is_ascii_alphanumeric())
                && hex.len() >= 32
                && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        if !is_digest {
            return wrong("what follows @ is a digest, as sha256:…");
        }
    }
    // A colon after the last slash is a tag's; before it, a port's.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if let Some(tag) = tag {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_tag = (1..=128).contains(&tag.len())
            && tag.bytes().next().is_some_and(word)
            && tag.bytes().all(|byte| word(byte) || b".-".contains(&byte));
        if !is_tag {
            return wrong("a tag has 1 to 128 letters, digits, _ . and -, not . or - first");
        }
    }
    let mut parts: Vec<&str> = name.split('/').collect();
    let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
    if parts.len() > 1 && is_host(parts[0]) {
        let host = parts.remove(0);
        let (host, port) = host.split_once(':').unwrap_or((host, "1"));
        if !is_subdomain(&host.to_ascii_lowercase()) || port.parse::<u16>().is_err() {
            return wrong("it begins with no HOST or HOST:PORT");
        }
    }
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part: &&str| {
        part.bytes().next().is_some_and(lower)
            && part.bytes().last().is_some_and(lower)
            && part
                .bytes()
                .all(|byte| lower(byte) || b"-_.".contains(&byte))
    };
    if !parts.iter().all(is_part) {
        return wrong("a path has small letters, digits, - _ and ., and / between its parts");
    }
    Ok(())
}

/// A job's name from its function, its id and the attempt: the id and the attempt whole, of the function what fits.
pub fn job_name(function: &str, id: &str, attempt: u32) -> String {
    let rest = format!("{id}-{attempt}");
    let room = MAX_LABEL.saturating_sub(rest.len() + 1);
    let mut front = &function[..function.len().min(room)];
    front = front.trim_end_matches('-');
    match front {
        "" => rest,
        front => format!("{front}-{rest}"),
    }
}

/// CPUs as Kubernetes writes them: thousandths, rounded up.
pub fn cpu_quantity(cpus: f64) -> Result<String, String> {
    let thousandths = (cpus * 1000.0 - 1e-6).ceil();
    if !(1.0..=4_096_000.0).contains(&thousandths) {
        return Err(format!("cpu {cpus}: between 0.001 and 4096"));
    }
    let thousandths = thousandths as u64;
    Ok(match thousandths % 1000 {
        0 => (thousandths / 1000).to_string(),
        _ => format!("{thousandths}m"),
    })
}

/// Bytes as Kubernetes writes them.
pub fn bytes_quantity(bytes: u64) -> String {
    let powers = [(30, "Gi"), (20, "Mi"), (10, "Ki")];
    let power = powers
        .iter()
        .find(|(power, _)| bytes > 0 && bytes.is_multiple_of(1u64 << power));
    match power {
        Some((power, unit)) => format!("{}{unit}", bytes >> power),
        None => bytes.to_string(),
    }
}

/// A variable's value where `$(NAME)` would be replaced: as it is.
pub fn literal(value: &str) -> String {
    value.replace('$', "$$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_kubernetes_takes_them() {
        for good in ["a", "0", "a-b", &"a".repeat(63)] {
            assert!(is_label(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"a".repeat(64)] {
            assert!(!is_label(bad), "{bad}");
        }
        assert!(is_subdomain("regcred.v2") && !is_subdomain("a..b") && !is_subdomain(""));
        for good in ["app", "Team_1.x", "example.com/team", "a/B"] {
            assert!(is_qualified(good), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "Ex.com/a", "-a", "a b", "a/é"] {
            assert!(!is_qualified(bad), "{bad}");
        }
        assert!(is_value("") && is_value("a.B_c-1") && !is_value("-") && !is_value("a b"));
        assert!(is_resource("rgpu.io/vgpu") && is_resource("rgpu.io/vgpu-small"));
        for bad in [
            "cpu",
            "kubernetes.io/x",
            "a.kubernetes.io/x",
            "rgpu.io/",
            "vgpu",
        ] {
            assert!(!is_resource(bad), "{bad}");
        }
        assert!(is_resource("mykubernetes.io/x"), "another domain");
    }

    #[test]
    fn labels_of_others_are_refused_with_what_to_do() {
        let check = |name: &str, value: &str| {
            check_labels([(&name.to_owned(), &value.to_owned())].into_iter())
        };
        assert_eq!(check("team", "vision"), Ok(()));
        for name in [
            "rgpu.io/job",
            "job-name",
            "app.kubernetes.io/name",
            "controller-uid",
        ] {
            assert!(check(name, "x").unwrap_err().contains("set by"), "{name}");
        }
        assert!(
            check("team", "two words")
                .unwrap_err()
                .contains("annotation")
        );
        assert!(check("two words", "x").unwrap_err().contains("DOMAIN/"));
        let long = ("note".to_owned(), "x".repeat(MAX_ANNOTATIONS));
        assert!(check_annotations([(&long.0, &long.1)].into_iter()).is_err());
    }

    #[test]
    fn images() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for good in [
            "busybox",
            "busybox:1",
            "ghcr.io/grycap/cow_say:latest",
            "localhost/kube-rig/busybox:1",
            "localhost:5000/a",
            "10.0.0.1:5000/a/b__c:v1.2",
            &digest,
        ] {
            assert_eq!(check_image(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            " a",
            "a b",
            "A",
            "a:",
            "a:-b",
            "a/",
            "/a",
            "a//b",
            "a@b",
            "host.:1/a",
            "a:b:c",
            "http://a/b",
            "a\n",
            "ä",
            "host.io:99999/a",
        ] {
            assert!(check_image(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn jobs_have_names_that_fit_and_differ() {
        let id = "0123456789abcdef-0123-4567-89ab-cdef";
        let name = job_name("echo", id, 1);
        assert_eq!(name, format!("echo-{id}-1"));
        let long = job_name(&"f".repeat(39), &"0".repeat(36), u32::MAX);
        assert!(
            is_label(&long) && long.ends_with(&format!("-{}", u32::MAX)),
            "{long}"
        );
        // A hyphen where it is cut would stand beside another.
        let cut = job_name("abcdefghijklmnopqrstuvw-xyz", &"0".repeat(36), 1);
        assert!(is_label(&cut) && !cut.contains("--"), "{cut}");
    }

    #[test]
    fn quantities() {
        let cpu = |cpus| cpu_quantity(cpus).unwrap();
        assert_eq!(
            (cpu(1.0).as_str(), cpu(0.3).as_str(), cpu(0.0001).as_str()),
            ("1", "300m", "1m")
        );
        assert_eq!(cpu(0.1 + 0.2), "300m", "not 301m");
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 5000.0] {
            assert!(cpu_quantity(bad).is_err(), "{bad}");
        }
        assert_eq!(bytes_quantity(1 << 30), "1Gi");
        assert_eq!(bytes_quantity(1536 << 20), "1536Mi");
        assert_eq!(bytes_quantity(1000), "1000");
        assert_eq!(literal("$(HOME) costs $5"), "$$(HOME) costs $$5");
    }
}
