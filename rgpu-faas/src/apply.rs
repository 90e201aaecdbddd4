//! A checked function as a definition of its own: to be sent to a server, or kept for the next start.

use crate::function::{Channel, Function, Mode, Need, Runs, Script, Timetable, Warm};
use serde_json::{Value, json};
use std::time::Duration;

/// Puts the content of script or handler in place of its path, so that the file need not exist at the server.
pub fn inline_script(function: &mut Function) -> std::io::Result<()> {
    let handler = match &mut function.warm {
        Some(Warm {
            runs: Runs::Handler(handler),
            ..
        }) => Some(handler),
        _ => None,
    };
    function
        .script
        .iter_mut()
        .chain(handler)
        .try_for_each(inline)
}

fn inline(script: &mut Script) -> std::io::Result<()> {
    let Script::File(path) = script else {
        return Ok(());
    };
    let mut text = std::fs::read_to_string(&path).map_err(|error| {
        std::io::Error::other(format!(
            "cannot read the script {}: {error}",
            path.display()
        ))
    })?;
    // The line break is what tells content from a path.
    if !text.contains('\n') {
        text.push('\n');
    }
    *script = Script::Inline(text);
    Ok(())
}

/// The definition of one function, with the credentials that stand in it.
pub fn definition(function: &Function) -> String {
    let mut fields = serde_json::Map::new();
    let mut put = |name: &str, value: Value| {
        let empty = value.is_null()
            || value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(serde_json::Map::is_empty);
        if !empty {
            fields.insert(name.to_owned(), value);
        }
    };
    put("name", json!(function.name));
    put("image", json!(function.image));
    put("image_pull_secrets", json!(function.image_pull_secrets));
    put("command", json!(function.command));
    put(
        "script",
        function.script.as_ref().map_or(Value::Null, script),
    );
    put("warm", function.warm.as_ref().map_or(Value::Null, warm));
    put(
        "directory",
        json!(function.directory.as_ref().map(|d| d.to_string_lossy())),
    );
    put("memory", json!(function.memory.map(|m| m.to_string())));
    put("cpu", json!(function.cpu.map(|cpu| cpu.to_string())));
    // Said only where it was: a cluster tells what was asked for from what may be.
    match (function.enable_gpu, function.asks_gpu) {
        (true, false) => {}
        (enabled, _) => put("enable_gpu", json!(enabled)),
    }
    put(
        "environment",
        json!({ "variables": function.variables, "secrets": function.secrets }),
    );
    put("input", function.input.iter().map(input).collect());
    put("output", function.output.iter().map(channel).collect());
    put("storage_providers", function.storage_providers.exposed());
    put(
        "schedule",
        function.timetables.iter().map(schedule).collect(),
    );
    put("log_level", json!(function.log_level));
    let mut vgpu = serde_json::Map::new();
    if let Some(memory) = function.vgpu.memory_mib {
        vgpu.insert("memory".into(), json!(format!("{memory}Mi")));
    }
    if let Some(share) = function.vgpu.share {
        vgpu.insert("share".into(), json!(share));
    }
    if let Some(profile) = &function.vgpu.profile {
        vgpu.insert("profile".into(), json!(profile));
    }
    if let Some(count) = function.vgpu.count {
        vgpu.insert("count".into(), json!(count));
    }
    match function.vgpu.need {
        Need::Unsaid => None,
        Need::Required => vgpu.insert("required".into(), json!(true)),
        Need::Preferred => vgpu.insert("preferred".into(), json!(true)),
    };
    if let Some(wait) = function.vgpu.wait {
        vgpu.insert("wait".into(), json!(micros(wait)));
    }
    put("vgpu", Value::Object(vgpu));
    put("timeout", json!(micros(function.timeout)));
    let retry = function.retry;
    put(
        "retry",
        json!({
            "attempts": retry.attempts,
            "min_wait": micros(retry.min_wait),
            "max_wait": micros(retry.max_wait),
        }),
    );
    put("concurrency", json!(function.concurrency));
    put(
        "total_memory",
        json!(function.total_memory.map(|m| m.to_string())),
    );
    put(
        "total_cpu",
        json!(function.total_cpu.map(|cpu| cpu.to_string())),
    );
    put("priority", json!(function.priority));
    put("rate", json!(function.rate));
    if let Some(dependency) = &function.depends_on {
        put("depends_on", json!(dependency.function));
        match dependency.mode {
            Mode::EachFile => put("each", json!("file")),
            Mode::WhenAll => put("when", json!("all")),
        }
    }
    if function.synchronous_max > 0 {
        put(
            "synchronous",
            json!({ "max_scale": function.synchronous_max }),
        );
    }
    put("file_stage_in", json!(function.file_stage_in));
    let place = &function.place;
    put("engine", json!(place.engine));
    put("network", json!(place.network));
    put("disk", json!(place.disk.to_string()));
    put("processes", json!(place.processes));
    put("annotations", json!(function.annotations));
    put("labels", json!(function.labels));
    Value::Object(fields).to_string()
}

fn script(script: &Script) -> Value {
    match script {
        Script::Inline(text) => json!(text),
        Script::File(path) => json!(path.to_string_lossy()),
    }
}

fn warm(warm: &Warm) -> Value {
    let (name, runs) = match &warm.runs {
        Runs::Handler(handler) => ("handler", script(handler)),
        Runs::Command(command) => ("command", json!(command)),
    };
    json!({
        name: runs,
        "min": warm.min,
        "max": warm.max,
        "idle": micros(warm.idle),
        "jobs": warm.jobs,
        "start_timeout": micros(warm.start_timeout),
    })
}

fn input(input: &Channel) -> Value {
    let mut value = channel(input);
    if let (false, Some(fields)) = (input.is_embedded(), value.as_object_mut()) {
        let poll = input.poll.map_or("off".into(), micros);
        fields.insert("poll".into(), json!(poll));
    }
    value
}

fn schedule(timetable: &Timetable) -> Value {
    let (name, rule) = match timetable.schedule.strip_prefix("every ") {
        Some(interval) => ("every", interval),
        None => ("cron", timetable.schedule.as_str()),
    };
    let mut value = json!({ name: rule, "missed": timetable.missed });
    if let (Some(zone), Some(fields)) = (&timetable.zone, value.as_object_mut()) {
        fields.insert("zone".into(), json!(zone));
    }
    value
}

fn channel(channel: &Channel) -> Value {
    json!({
        "storage_provider": channel.storage_provider,
        "path": channel.path,
        "suffix": channel.suffix,
        "prefix": channel.prefix,
    })
}

fn micros(duration: Duration) -> String {
    format!("{}us", duration.as_micros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::parse;

    #[test]
    fn what_is_sent_means_the_same() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("run.sh"), "echo \"a\\b\" ü\n\tx\n").unwrap();
        let text = "functions: { oscar: [ { c: {
            name: f, script: run.sh, memory: 100Mi, cpu: 0.5, enable_gpu: false,
            environment: { variables: { A: \"1\", B: 'two: \"x\"' }, secrets: { KEY: the-key, OTHER: '' } },
            input: [ { path: b/in, suffix: [.x] } ], output: [ { path: b/out, prefix: [p] } ],
            vgpu: { memory: 64Mi, share: 5, count: 2, preferred: true, wait: 3s }, timeout: 1500ms, concurrency: 3,
            total_memory: 1Gi, total_cpu: 1500m, priority: -3, rate: 90, synchronous: { max_scale: 2 },
            file_stage_in: true, engine: process, network: false, disk: 3Gi, processes: 99, labels: { a: b }, annotations: { \"c/d\": e },
            retry: { attempts: 4, min_wait: 1ms, max_wait: 7s },
            schedule: [ 'every 5m', { cron: 30 6 * * MON-FRI, zone: Europe/Berlin, missed: skip } ] } } ] }";
        let mut sent = parse(text, "f.yaml", Some(folder.path())).unwrap();
        let kept = parse(&definition(&sent[0]), "journal", None).unwrap();
        assert_eq!(sent, kept);
        inline_script(&mut sent[0]).unwrap();
        let content = "echo \"a\\b\" ü\n\tx\n".into();
        assert_eq!(sent[0].script, Some(Script::Inline(content)));
        let received = parse(&definition(&sent[0]), "request", None).unwrap();
        assert_eq!(sent, received);
        std::fs::write(folder.path().join("handler.py"), "def handle(job): pass").unwrap();
        let text = "{ name: w, warm: { handler: handler.py, min: 1, max: 2, idle: 3s, jobs: 4, start_timeout: 5s } }";
        let mut sent = parse(text, "w.yaml", Some(folder.path())).unwrap();
        let kept = parse(&definition(&sent[0]), "journal", None).unwrap();
        assert_eq!(sent, kept);
        inline_script(&mut sent[0]).unwrap();
        let received = parse(&definition(&sent[0]), "request", None).unwrap();
        assert_eq!(sent, received);
        for more in [
            "warm: { command: [x] }",
            "command: [x], depends_on: other, each: file, vgpu: { profile: big, required: true }",
            "command: [x], depends_on: other, when: all",
            "command: [x], image: a/b, image_pull_secrets: [regcred], enable_gpu: true",
            "command: [x], schedule: '@daily'",
            "command: [x], input: [ { storage_provider: webdav.d, path: b/in }, { storage_provider: webdav.d, path: b/in2, poll: off },
               { storage_provider: s3.a, path: b/in3, poll: 90s } ], output: [ { storage_provider: minio, path: c } ],
             storage_providers: { webdav: { d: { hostname: d, login: me, password: hidden } },
               s3: { a: { access_key: k, secret_key: 'secret:a' } }, minio: { default: { endpoint: 'https://m' } } }",
        ] {
            let text = format!("{{ name: g, {more} }}");
            let sent = parse(&text, "f", None).unwrap();
            assert_eq!(parse(&definition(&sent[0]), "journal", None).unwrap(), sent);
        }
    }
}
