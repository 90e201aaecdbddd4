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
            share: Some(25),
            ..Vgpu::default()
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
    let error = error(&with("expose: { min_scale: 1 }"));
    assert!(error.message.contains("field of OSCAR"), "{error}");
    assert_eq!((error.line, error.column), (3, 9), "{error}");
    // What OSCAR's clients send of a function that does not use them.
    let empty = with(
        "expose: { min_scale: 0, api_port: [], set_auth: false }\nfederation: null\nallowed_users: []\nenable_sgx: false",
    );
    let function = parse(&empty, "f", None).unwrap().remove(0);
    assert!(function.warnings.is_empty(), "{:?}", function.warnings);
}

#[test]
fn fields_of_oscar_without_effect_are_named() {
    let text = with(
        "image_prefetch: true\ntoken: abc\nnamespace: ''\nsynchronous: { min_scale: 2, max_scale: 3 }",
    );
    let function = parse(&text, "f", None).unwrap().remove(0);
    let warnings = function.warnings.join("\n");
    for part in [
        "image_prefetch has no effect",
        "token has",
        "synchronous.min_scale",
    ] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    assert!(!warnings.contains("namespace") && !warnings.contains("abc"));
    assert_eq!(function.synchronous_max, 3);
}

#[test]
fn totals_bound_how_many_run() {
    let limit = |lines: &str| parse(&with(lines), "f", None).unwrap()[0].limit();
    assert_eq!(limit(""), 8);
    assert_eq!(limit("memory: 256Mi\ntotal_memory: 1Gi"), 4);
    assert_eq!(limit("cpu: 0.1\ntotal_cpu: '0.3'"), 3);
    assert_eq!(
        limit("cpu: 0.5\ntotal_cpu: 1500m\nmemory: 1Gi\ntotal_memory: 2Gi"),
        2
    );
    assert_eq!(limit("total_memory: 1Gi\nconcurrency: 5"), 5);
    assert_eq!(limit("memory: 1Gi\ntotal_memory: ''"), 8);
}

#[test]
fn secrets_are_references_and_never_said() {
    let text = with("environment: { secrets: { KEY: file-1, OTHER: '' } }");
    let function = parse(&text, "f", None).unwrap().remove(0);
    assert_eq!(function.secrets["KEY"], "file-1");
    assert_eq!(function.secrets["OTHER"], "OTHER");
    for value in ["hunter2 is my password", "../etc/shadow", ".hidden"] {
        let text = with(&format!("environment: {{ secrets: {{ KEY: '{value}' }} }}"));
        let error = error(&text).to_string();
        assert!(
            error.contains("by reference") && !error.contains(value),
            "{error}"
        );
    }
    let twice = with("environment: { variables: { A: x }, secrets: { A: y } }");
    assert!(
        error(&twice)
            .message
            .contains("both a variable and a secret")
    );
    let own = with("environment: { secrets: { RGPU_TOKEN: y } }");
    assert!(error(&own).message.contains("set by the runner"));
}

#[test]
fn dependencies_say_how() {
    let mode = |lines: &str| {
        parse(&with(lines), "f", None).unwrap()[0]
            .depends_on
            .clone()
    };
    let of = |mode| {
        Some(Dependency {
            function: "split".into(),
            mode,
        })
    };
    assert_eq!(mode("depends_on: split\neach: file"), of(Mode::EachFile));
    assert_eq!(mode("depends_on: split\nwhen: all"), of(Mode::WhenAll));
    for (lines, part) in [
        ("depends_on: split", "say how"),
        ("depends_on: f\nwhen: all", "itself"),
        ("depends_on: split\nwhen: some", "when is `all`"),
        ("depends_on: split\neach: job", "each is `file`"),
        ("depends_on: split\neach: file\nwhen: all", "not both"),
        ("when: all", "depends_on"),
        ("depends_on: Split\nwhen: all", "lower-case"),
        (
            "depends_on: s\nwhen: all\ninput: [{ path: b/in }]",
            "leave out input",
        ),
    ] {
        let error = error(&with(lines));
        assert!(error.message.contains(part), "{lines}: {error}");
        assert!(error.line >= 3, "{lines}: {error}");
    }
}

#[test]
fn vgpus_are_by_profile_or_by_size_and_say_what_without() {
    let vgpu = |fields: &str| {
        parse(&with(&format!("vgpu: {{ {fields} }}")), "f", None).unwrap()[0]
            .vgpu
            .clone()
    };
    let asked = vgpu("profile: small, count: 2, preferred: true, wait: 5s");
    assert_eq!(asked.profile.as_deref(), Some("small"));
    assert_eq!((asked.count, asked.need), (Some(2), Need::Preferred));
    assert_eq!(asked.wait, Some(Duration::from_secs(5)));
    assert!(asked.is_asked_for() && vgpu("required: true").is_asked_for());
    assert!(!vgpu("memory: 64Mi, preferred: false").is_asked_for());
}

#[test]
fn a_script_of_one_line_without_an_end_is_taken_over_the_network() {
    let script = |text: &str| parse(text, "request", None).map(|it| it[0].script.clone());
    let line = script("{ name: f, script: 'cat $INPUT_FILE_PATH' }").unwrap();
    assert_eq!(line, Some(Script::Inline("cat $INPUT_FILE_PATH\n".into())));
    assert!(script("{ name: f, script: script.sh }").is_err());
}

#[test]
fn oscars_examples_write_variables_large() {
    let text = with("vo: [a]\nenvironment: { Variables: { A: b }, secrets: { K: k } }");
    let function = parse(&text, "f", None).unwrap().remove(0);
    assert_eq!(function.variables["A"], "b");
    assert!(
        function.warnings[0].starts_with("vo has no effect"),
        "{:?}",
        function.warnings
    );
}

#[test]
fn what_oscars_client_leaves_empty_is_not_said() {
    let text = "{ name: f, script: \"true\\n\", image: '', memory: '', cpu: '', total_memory: '', total_cpu: '', log_level: '',
        environment: { variables: null, secrets: null }, input: null, output: [ { storage_provider: '', path: b/out, suffix: null, prefix: null } ],
        annotations: null, labels: null, synchronous: { min_scale: 0, max_scale: 0 }, mount: { storage_provider: '', path: '' } }";
    let function = parse(text, "f", None).unwrap().remove(0);
    assert_eq!(
        (function.memory, function.cpu, function.image),
        (None, None, None)
    );
    assert_eq!(function.log_level, "INFO");
    assert!(function.output[0].suffix.is_empty());
    let cpu = |text: &str| parse(&with(text), "f", None).unwrap()[0].cpu;
    assert_eq!(
        [
            cpu("cpu: '1.0'"),
            cpu("cpu: 0.2"),
            cpu("cpu: 500m"),
            cpu("cpu: 2")
        ],
        [Some(1.0), Some(0.2), Some(0.5), Some(2.0)]
    );
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
        ("cpu: -1", "above 0"),
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
        ("priority: 101", "between -100 and 100"),
        ("rate: 0", "starts a minute"),
        ("total_memory: 1Mi\nmemory: 2Mi", "less than one job"),
        ("total_cpu: many", "number of cores"),
        ("total_cpu: '1'\ncpu: 2", "less than one job"),
        ("vgpu: { profile: 'a b' }", "profile's name"),
        ("vgpu: { profile: a, share: 5 }", "write either"),
        ("vgpu: { required: true, preferred: true }", "not both"),
        ("vgpu: { count: 0 }", "between 1 and 32"),
        ("synchronous: { max_scale: 5000 }", "at most 1024"),
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
        poll: None,
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
