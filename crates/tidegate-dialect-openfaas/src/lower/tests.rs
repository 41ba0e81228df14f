use serde_json::json;

use super::*;

/// A deployment of an image of the Python template, each with some members changed.
fn lowered(deployment: Value, image: Value) -> Result<FunctionSpec, String> {
    let merged = |mut base: Value, more: Value| {
        let Value::Object(more) = more else {
            panic!("not an object")
        };
        base.as_object_mut().unwrap().extend(more);
        base
    };
    let deployment = merged(json!({ "service": "f", "image": "f:latest" }), deployment);
    let image = merged(
        json!({
            "name": "f:latest",
            "digest": format!("sha256:{}", "0".repeat(64)),
            "language": "python3-http",
            "runtime": "python",
            "entry": "index.py",
            "handler": "handle",
            "hosted": true,
            "watchdog": "of-watchdog",
            "process": "python index.py",
            "env": { "mode": "http", "upstream_url": "http://127.0.0.1:5000", "A": "image" },
            "concurrency": 4,
        }),
        image,
    );
    let key = ObjectKey::new(API_VERSION, KIND, "default", "f").unwrap();
    let spec = json!({ "deployment": deployment, "image": image });
    let object = Object::with_spec(&key, spec).unwrap();
    Deployments
        .lower(&object)
        .map(|lowered| lowered.spec)
        .map_err(|e| e.to_string())
}

fn of(deployment: Value) -> FunctionSpec {
    lowered(deployment, json!({})).unwrap()
}

fn refused(deployment: Value) -> String {
    lowered(deployment, json!({})).unwrap_err()
}

#[test]
fn an_images_own_process_is_our_hosts_and_any_other_is_run_as_it_is() {
    let hosted = of(json!({}));
    assert!(hosted.command.is_empty());
    assert_eq!(
        (
            &*hosted.contract,
            &*hosted.code.entry,
            hosted.handler.as_deref()
        ),
        ("of-watchdog", "index.py", Some("handle"))
    );
    // As clients send it, who read it in the template.
    assert!(
        of(json!({ "envProcess": "python index.py" }))
            .command
            .is_empty()
    );
    assert!(of(json!({ "envProcess": "" })).command.is_empty());
    for (deployment, command) in [
        (
            json!({ "envProcess": "python other.py" }),
            vec!["python", "other.py"],
        ),
        // No shell and no quoting, and two spaces have an empty argument between them.
        (
            json!({ "envProcess": "echo 'a  b'" }),
            vec!["echo", "'a", "", "b'"],
        ),
        (json!({ "envVars": { "fprocess": "cat" } }), vec!["cat"]),
        (
            json!({ "envProcess": "env", "envVars": { "fprocess": "cat" } }),
            vec!["env"],
        ),
        (
            json!({ "envProcess": "env", "envVars": { "function_process": "cat" } }),
            vec!["cat"],
        ),
        // Another mode than the one our host stands for.
        (
            json!({ "envVars": { "mode": "streaming" } }),
            vec!["python", "index.py"],
        ),
        (
            json!({ "envVars": { "mode": "" } }),
            vec!["python", "index.py"],
        ),
    ] {
        assert_eq!(of(deployment.clone()).command, command, "{deployment}");
    }
    let classic = json!({ "watchdog": "classic-watchdog", "hosted": false, "env": {} });
    let classic = lowered(json!({ "envVars": { "function_process": "cat" } }), classic).unwrap();
    assert_eq!(classic.contract, "classic-watchdog");
    assert_eq!(classic.command, ["python", "index.py"]);
    assert!(
        of(json!({ "envVars": { "mode": "static" } }))
            .command
            .is_empty()
    );
}

#[test]
fn the_environment_is_layers_and_the_platform_has_the_last_word() {
    let spec = of(json!({
        "envProcess": "cat",
        "envVars": { "A": "deployment", "OPENFAAS_NAME": "forged", "with.dot-and-dash": "" },
    }));
    let env: Vec<_> = spec.env.iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(
        env,
        [
            ("A", "deployment"),
            ("OPENFAAS_NAME", "f"),
            ("OPENFAAS_NAMESPACE", "openfaas-fn"),
            ("fprocess", "cat"),
            ("mode", "http"),
            ("upstream_url", "http://127.0.0.1:5000"),
            ("with.dot-and-dash", ""),
        ]
    );
    assert_eq!(of(json!({})).env["fprocess"], "python index.py");
}

#[test]
fn a_limit_of_calls_at_once_refuses_rather_than_queues() {
    let scale = of(json!({})).scale;
    assert_eq!((scale.concurrency, scale.waiting), (4, None));
    let scale = of(json!({ "envVars": { "max_inflight": "8" } })).scale;
    assert_eq!((scale.concurrency, scale.waiting), (8, Some(0)));
    for unlimited in ["0", "", "many"] {
        let scale = of(json!({ "envVars": { "max_inflight": unlimited } })).scale;
        assert_eq!((scale.concurrency, scale.waiting), (4, None), "{unlimited}");
    }
    let scale = of(json!({ "envVars": { "max_inflight": "100000" } })).scale;
    assert_eq!(scale.concurrency, MAX_CONCURRENCY);
}

#[test]
fn a_call_lasts_a_little_longer_than_its_watchdog_lets_it() {
    for (env, seconds) in [
        (json!({}), 65),
        (json!({ "exec_timeout": "10s" }), 65),
        (json!({ "exec_timeout": "2m" }), 125),
        (
            json!({ "exec_timeout": "2m", "write_timeout": "5m30s" }),
            335,
        ),
        (json!({ "write_timeout": "90" }), 95),
        (json!({ "exec_timeout": "0" }), 65),
        (json!({ "exec_timeout": "nonsense" }), 65),
        (json!({ "exec_timeout": "100h" }), 24 * 3600),
    ] {
        let limits = of(json!({ "envVars": env })).limits;
        let wanted = Duration::from_secs(seconds);
        assert_eq!(
            (limits.timeout, limits.first_byte),
            (wanted, wanted),
            "{env}"
        );
    }
}

#[test]
fn limits_are_kubernetes_quantities_and_requests_reserve_nothing() {
    let limits = of(json!({ "requests": { "memory": "4Gi", "cpu": "8" } })).limits;
    assert_eq!((limits.memory, limits.cpu_milli), (MEMORY, CPU_MILLI));
    let limits = of(json!({ "limits": { "memory": "128Mi", "cpu": "250m" } })).limits;
    assert_eq!(
        (limits.memory, limits.cpu_milli, limits.tmp),
        (128 << 20, 250, 64 << 20)
    );
    // As clients send them where only one was given.
    let limits = of(json!({ "limits": { "memory": "", "cpu": "2" } })).limits;
    assert_eq!((limits.memory, limits.cpu_milli), (MEMORY, 2000));
    let limits = of(json!({ "limits": { "memory": "0.5G", "nvidia.com/gpu": "" } })).limits;
    assert_eq!(limits.memory, 500_000_000);
}

#[test]
fn a_process_a_call_may_be_as_many_as_there_are_calls() {
    assert_eq!(of(json!({})).limits.pids, PIDS);
    let forked = of(json!({ "envVars": { "mode": "streaming", "max_inflight": "100" } }));
    assert_eq!(forked.limits.pids, 100 * PIDS_PER_CALL);
}

#[test]
fn a_secret_is_a_file_once_however_often_it_is_named() {
    let spec = of(json!({ "secrets": ["a", "b.c", "a"] }));
    let names: Vec<_> = spec.secrets.iter().map(|s| (&*s.name, &s.env)).collect();
    assert_eq!(names, [("a", &None), ("b.c", &None)]);
    assert!(
        of(json!({ "secrets": null, "labels": null, "annotations": null }))
            .secrets
            .is_empty()
    );
}

#[test]
fn the_machines_network_is_for_those_that_need_no_port() {
    let host = json!({ "tidegate.dev/network": "host" });
    assert_eq!(of(json!({})).network, Network::Outbound);
    assert_eq!(of(json!({ "annotations": host })).network, Network::Host);
    let error = refused(json!({ "annotations": host, "envProcess": "python own.py" }));
    assert!(
        error.starts_with("annotations.tidegate.dev/network: "),
        "{error}"
    );
    let forked =
        json!({ "annotations": host, "envProcess": "cat", "envVars": { "mode": "streaming" } });
    assert_eq!(of(forked).network, Network::Host);
}

#[test]
fn a_list_says_what_is_reached() {
    let listed = |list: &str| json!({ "annotations": { "tidegate.dev/egress": list } });
    assert_eq!(of(json!({})).egress, None);
    let rules = of(listed("a.org, *.b.org:443,10.0.0.0/8")).egress.unwrap();
    let rules: Vec<_> = rules.iter().map(ToString::to_string).collect();
    assert_eq!(rules, ["a.org", "*.b.org:443", "10.0.0.0/8"]);
    assert_eq!(of(listed("")).egress, Some(Vec::new()));
    let error = refused(listed("https://a.org"));
    assert!(
        error.starts_with("annotations.tidegate.dev/egress: "),
        "{error}"
    );
    let both = json!({ "tidegate.dev/egress": "a.org", "tidegate.dev/network": "none" });
    assert!(refused(json!({ "annotations": both })).contains("outbound"));
}

#[test]
fn what_cannot_be_is_refused_by_its_name() {
    for (deployment, starts, says) in [
        (json!({ "envProcess": " cat" }), "envProcess: ", "\" cat\""),
        (json!({ "envVars": { "A=B": "c" } }), "envVars: ", "\"A=B\""),
        (json!({ "envVars": { "": "c" } }), "envVars: ", "\"\""),
        (json!({ "envVars": { "A": "b\u{0}" } }), "envVars: ", "NUL"),
        (
            json!({ "envVars": { "A": "x".repeat(100_000) } }),
            "envVars: ",
            "98304",
        ),
        (
            json!({ "envVars": { "mode": "afterburn" } }),
            "envVars: ",
            "afterburn",
        ),
        (
            json!({ "envVars": { "write_timeout": "0" } }),
            "envVars: ",
            "write_timeout",
        ),
        (
            json!({ "limits": { "memory": "12Q" } }),
            "limits.memory: ",
            "256Mi",
        ),
        (
            json!({ "limits": { "memory": "4Ki" } }),
            "limits.memory: ",
            "8Mi",
        ),
        (
            json!({ "limits": { "cpu": "fast" } }),
            "limits.cpu: ",
            "500m",
        ),
        (
            json!({ "limits": { "amd.com/gpu": 1 } }),
            "limits.amd.com/gpu: ",
            "devices",
        ),
        (json!({ "secrets": vec!["s"; 65] }), "secrets: ", "64"),
        (
            json!({ "labels": { "com.openfaas.scale.max": "0" } }),
            "com.openfaas.scale.max: ",
            "\"0\"",
        ),
    ] {
        let error = refused(deployment.clone());
        assert!(
            error.starts_with(starts) && error.contains(says),
            "{deployment}: {error}"
        );
    }
    let nothing = lowered(json!({}), json!({ "process": "", "hosted": false })).unwrap_err();
    assert!(nothing.starts_with("envProcess: is empty"), "{nothing}");
}
