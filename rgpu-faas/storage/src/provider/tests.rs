use super::*;
use crate::secret::Secrets;
use crate::{Limits, Store};

fn checked(yaml: &str) -> Result<Providers, ProviderError> {
    Providers::check(&serde_saphyr::from_str(yaml).unwrap(), None)
}

fn refused(yaml: &str) -> String {
    checked(yaml).unwrap_err().to_string()
}

const OSCAR: &str = "
minio:
  default:
    endpoint: https://minio.example.org:9000
    verify: true
    access_key: minio
    secret_key: PRIVATE
    region: us-east-1
s3:
  archive: { access_key: 'env:KEY', secret_key: 'secret:s3', region: eu-west-1 }
webdav:
  dcache: { hostname: prometheus.example.org, login: user, password: 'file:/run/secrets/dav' }
";

#[test]
fn the_providers_of_a_definition_of_oscars() {
    let providers = checked(OSCAR).unwrap();
    let names: Vec<String> = providers.iter().map(|(id, _)| id.to_string()).collect();
    assert_eq!(names, ["minio.default", "s3.archive", "webdav.dcache"]);
    let (id, provider) = providers.get("minio").unwrap();
    assert_eq!(id.to_string(), "minio.default");
    let Provider::S3(s3) = provider else {
        panic!("{provider:?}")
    };
    assert_eq!(
        s3.endpoint.as_ref().unwrap().as_str(),
        "https://minio.example.org:9000/"
    );
    let Provider::Webdav(dav) = providers.get("webdav.dcache").unwrap().1 else {
        panic!()
    };
    assert_eq!(dav.base.as_str(), "https://prometheus.example.org/");
    let [warning] = providers.warnings() else {
        panic!("{:?}", providers.warnings())
    };
    assert!(
        warning.contains("minio.default") && warning.contains("secret:NAME"),
        "{warning}"
    );
    let missing = providers.get("s3.other").unwrap_err().to_string();
    assert!(
        missing.contains("there are minio.default, s3.archive"),
        "{missing}"
    );
}

#[test]
fn the_servers_own_folder_stands_in_for_a_minio_that_is_not_defined() {
    let local = || Some(PathBuf::from("/srv"));
    let bare = Providers::check(&RawProviders::default(), local()).unwrap();
    for name in ["local", "minio", "minio.default"] {
        assert!(matches!(bare.get(name).unwrap().1, Provider::Local { .. }));
    }
    let raw = serde_saphyr::from_str(OSCAR).unwrap();
    let defined = Providers::check(&raw, local()).unwrap();
    assert!(matches!(defined.get("minio").unwrap().1, Provider::S3(_)));
}

#[test]
fn no_credential_is_shown_by_what_was_read() {
    let raw: RawProviders = serde_saphyr::from_str(OSCAR).unwrap();
    let providers = Providers::check(&raw, None).unwrap();
    let json = serde_json::to_string(&providers).unwrap();
    let shown = format!("{raw:?} {providers:?} {json} {:?}", providers.warnings());
    assert!(!shown.contains("PRIVATE"), "{shown}");
    assert!(json.contains("secret:s3") && json.contains("***"), "{json}");
    let store = providers
        .open("minio", "clips", &Secrets::none(), Limits::default())
        .unwrap();
    assert!(!format!("{store:?}").contains("PRIVATE"), "{store:?}");
}

#[test]
fn mistakes_are_named_with_what_to_do() {
    for (yaml, says) in [
        (
            "onedata: { x: { oneprovider_host: h, token: t, space: s } }",
            "onedata is not served here",
        ),
        ("rucio: { x: { host: h } }", "rucio is not served here"),
        ("mino: { x: {} }", "did you mean minio?"),
        ("ftp: { x: {} }", "there are minio, s3, webdav and local"),
        (
            "minio: { default: { access_key: a, secret_key: b } }",
            "endpoint: is missing",
        ),
        (
            "minio: { default: { endpoint: 'minio:9000' } }",
            "begins with https://",
        ),
        (
            "minio: { default: { endpoint: 'https://u:PRIVATE@minio' } }",
            "fields of their own",
        ),
        (
            "minio: { default: { endpoint: 'https://minio/bucket' } }",
            "has no path",
        ),
        (
            "minio: { default: { endpoint: 'https://minio/?x' } }",
            "has no `?`",
        ),
        (
            "minio: { default: { endpoint: 'https://minio', acces_key: a } }",
            "did you mean access_key?",
        ),
        (
            "minio: { default: { endpoint: 'https://minio', access_key: a } }",
            "secret_key: is missing",
        ),
        (
            "minio: { default: { endpoint: 'https://minio', verify: 'no' } }",
            "is true or false",
        ),
        (
            "minio: { default: { endpoint: 'https://minio', access_key: 12, secret_key: b } }",
            "put it into quotes",
        ),
        (
            "s3: { a: { endpoint: 'https://minio' } }",
            "there is no field of this name",
        ),
        ("s3: { a: { region: 'eu west' } }", "region"),
        ("s3: { 'a b': {} }", "an id of at most 63"),
        (
            "s3: { a: { access_key: 'env:', secret_key: b } }",
            "the name of a variable",
        ),
        (
            "webdav: { a: { login: l, password: 'env:P' } }",
            "hostname: is missing",
        ),
        (
            "webdav: { a: { hostname: 'ftp://h', login: l, password: 'env:P' } }",
            "begins with https://",
        ),
    ] {
        let error = refused(yaml);
        assert!(error.contains(says), "{yaml}: {error}");
        assert!(!error.contains("PRIVATE"), "{error}");
    }
    assert!(ProviderId::parse("local.x").is_err());
}

#[test]
fn credentials_are_read_when_a_store_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = Secrets::folder(folder.path());
    let yaml = "s3: { a: { access_key: 'secret:key', secret_key: 'secret:s3' } }";
    let providers = checked(yaml).unwrap();
    let open = || -> Result<Store, String> {
        providers
            .open("s3.a", "clips", &secrets, Limits::default())
            .map_err(|e| e.to_string())
    };
    std::fs::write(folder.path().join("key"), "AKIA").unwrap();
    let error = open().unwrap_err();
    assert!(
        error.contains("s3.a: secret_key:") && error.contains("No such file"),
        "{error}"
    );
    std::fs::write(folder.path().join("s3"), "PRIVATE\n").unwrap();
    open().unwrap();
    std::fs::write(folder.path().join("key"), "AK IA").unwrap();
    let error = open().unwrap_err();
    assert!(
        error.contains("no access key has") && !error.contains("AK IA"),
        "{error}"
    );
    assert!(
        providers
            .open("s3.a", "../x", &secrets, Limits::default())
            .is_err()
    );
}
