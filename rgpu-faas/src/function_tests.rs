use super::*;

const GOOD: &str = r#"
functions:
  oscar:
    - embedded:
        name: echo-view
        command: [python3]
        script: |
          print("hello")
        memory: 512Mi
        environment:
          variables: { MODEL: small, THREADS: 1 }
        input:
          - { storage_provider: minio.default, path: echo/in, suffix: [.dcm] }
        output:
          - { path: echo/out/, prefix: [r], suffix: [.json, .png] }
        log_level: DEBUG
        vgpu: { memory: 256Mi, share: 25 }
        timeout: 2m
        retry: { attempts: 2, min_wait: 100ms, max_wait: 1s }
        concurrency: 4
"#;

fn error(text: &str) -> FdlError {
    parse(text, "f.yaml", None).expect_err("must be refused")
}

/// A one-function definition with the given extra line.
fn with(line: &str) -> String {
    format!("name: f\nscript: \"true\\n\"\n{line}\n")
}

#[test]
fn every_field_is_read() {
    let functions = parse(GOOD, "f.yaml", None).unwrap();
    let [function] = &functions[..] else {
        panic!("{functions:?}")
    };
    assert_eq!(function.name, "echo-view");
    assert_eq!(
        function.script,
        Some(Script::Inline("print(\"hello\")\n".into()))
    );
    assert_eq!(function.memory, Some(512 << 20));
    assert_eq!(function.variables["THREADS"], "1");
    assert_eq!(function.input[0].path, "echo/in");
    assert_eq!(function.output[0].path, "echo/out");
    assert_eq!(
        function.vgpu,
        Vgpu {
            memory_mib: Some(256),
            share: Some(25)
        }
    );
    assert_eq!(function.timeout, Duration::from_secs(120));
    assert_eq!(function.retry.min_wait, Duration::from_millis(100));
    assert_eq!(function.concurrency, 4);
}

#[test]
fn json_of_one_function_is_read() {
    let text = r#"{"name":"f","script":"true\n","image":"busybox"}"#;
    let functions = parse(text, "request", None).unwrap();
    assert_eq!(functions[0].name, "f");
    assert!(functions[0].warnings[0].contains("image"));
}

#[test]
fn unknown_keys_name_the_nearest_and_the_place() {
    let text = GOOD.replace("timeout: 2m", "timeuot: 2m");
    let error = error(&text);
    assert_eq!((error.line, error.column), (18, 9), "{error}");
    assert!(error.message.contains("did you mean `timeout`"), "{error}");
    assert!(error.to_string().starts_with("f.yaml:18:9: "), "{error}");
}

#[test]
fn unknown_nested_and_top_keys_are_refused() {
    assert!(
        error(&GOOD.replace("share:", "shares:"))
            .message
            .contains("`share`")
    );
    assert!(
        error(&format!("{GOOD}\ncluster: {{}}\n"))
            .message
            .contains("`clusters`")
    );
    assert!(
        error(&with("xyzzy_plugh: 1"))
            .message
            .contains("the fields here are name")
    );
}

#[test]
fn fields_of_oscar_that_are_not_served_say_so() {
    let error = error(&with("synchronous: { min_scale: 1 }"));
    assert!(error.message.contains("field of OSCAR"), "{error}");
}

#[test]
fn values_out_of_range_are_refused_where_they_stand() {
    for (line, part) in [
        ("memory: 5 apples", "not a size"),
        ("memory: 10", "less than 1Mi"),
        ("vgpu: { memory: 512 }", "needs a unit"),
        ("vgpu: { share: 0 }", "percentage"),
        ("vgpu: { share: 101 }", "percentage"),
        ("timeout: soon", "not a duration"),
        ("timeout: 0s", "positive"),
        ("retry: { attempts: 0 }", "between 1 and 100"),
        ("retry: { min_wait: 5s, max_wait: 1s }", "shorter"),
        ("concurrency: 0", "between 1 and 1024"),
        ("log_level: TRACE", "unknown log level"),
        ("cpu: -1", "more than 0"),
        ("input: [{ path: onlybucket }]", "missing folder"),
        ("input: [{ path: a/../b }]", "`..`"),
        ("input: [{ path: a/.hidden }]", "dot"),
        ("input: [{ path: a//b }]", "empty parts"),
        (
            "input: [{ storage_provider: s3.x, path: a/b }]",
            "storage provider",
        ),
        (
            "environment: { variables: { RGPU_SERVERS: x } }",
            "set by the runner",
        ),
        ("environment: { variables: { \"A B\": x } }", "letters"),
        ("directory: relative", "absolute"),
        ("command: []", "1 to 256 words"),
    ] {
        let error = error(&with(line));
        assert!(error.message.contains(part), "{line}: {error}");
        assert_eq!(error.line, 3, "{line}: {error}");
        assert!(error.column > 1, "{line}: {error}");
    }
}

#[test]
fn a_function_that_triggers_itself_is_refused() {
    for (input, output) in [("b/in", "b/in"), ("b/in", "b/in/deeper"), ("b/x/y", "b/x")] {
        let text = with(&format!(
            "input: [{{ path: {input} }}]\noutput: [{{ path: {output} }}]"
        ));
        let error = error(&text);
        assert!(error.message.contains("trigger itself"), "{error}");
        assert_eq!(error.line, 4);
    }
    let apart = with("input: [{ path: b/in }]\noutput: [{ path: b/inner }]");
    assert!(parse(&apart, "f", None).is_ok());
}

#[test]
fn names_and_scripts_are_checked() {
    for name in ["", "A", "-a", "a-", "a_b", "a.b", &"x".repeat(40)] {
        let text = format!("name: \"{name}\"\nscript: \"true\\n\"\n");
        assert_eq!(error(&text).line, 1, "{name:?}");
    }
    assert!(error("name: f\n").message.contains("nothing to run"));
    assert!(error("script: x\n").message.contains("`name` is missing"));
    assert!(
        error("name: f\nscript: run.sh\n")
            .message
            .contains("inlined")
    );
    let missing = parse(
        "name: f\nscript: run.sh\n",
        "f",
        Some(Path::new("/nonexistent")),
    );
    assert!(
        missing
            .unwrap_err()
            .message
            .contains("relative to the YAML")
    );
}

#[test]
fn duplicates_and_wrong_shapes_are_refused() {
    let twice = GOOD.to_owned() + &GOOD[GOOD.find("    - embedded").unwrap()..];
    assert!(error(&twice).message.contains("defined twice"));
    for text in [
        "",
        "[]",
        "functions: {}",
        "functions: { oscar: [] }",
        "functions: { oscar: [{}] }",
        "a: [",
        "\u{0}",
        "name: [1]",
    ] {
        let error = error(text);
        assert!(!error.message.is_empty(), "{text:?}");
    }
    assert!(
        error(&"#".repeat(fdl::MAX_DEFINITION + 1))
            .message
            .contains("at most")
    );
}

#[test]
fn filters_are_case_sensitive_and_empty_lists_match() {
    let mut channel = Channel {
        storage_provider: "local".into(),
        path: "b/f".into(),
        suffix: vec![],
        prefix: vec![],
    };
    assert!(channel.accepts(b"anything"));
    channel.suffix = vec![".png".into(), ".json".into()];
    assert!(channel.accepts(b"a/b.json") && !channel.accepts(b"a/b.JSON"));
    channel.prefix = vec!["a/".into()];
    assert!(channel.accepts(b"a/b.json") && !channel.accepts(b"b/b.json"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,300}") {
        let _ = parse(&text, "f", None);
    }

    #[test]
    fn no_damage_makes_the_reader_panic(at in 0usize..600, with in "\\PC{0,4}") {
        let at = at.min(GOOD.len());
        let _ = parse(&format!("{}{with}{}", &GOOD[..at], &GOOD[at..]), "f", None);
    }
}
