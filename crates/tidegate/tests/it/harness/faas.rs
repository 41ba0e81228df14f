//! What OpenFaaS's command line does on the wire, request by request: an archive of a context and its signature, a PUT
//! that a POST follows where the function is not there yet, and what it takes for success.

use std::io::BufRead as _;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Call, Files, Reply, Server, until};

/// A build as its client sees it.
#[derive(Debug)]
pub(crate) struct Built {
    /// Each line of the answer.
    pub(crate) lines: Vec<Value>,
}

impl Built {
    /// The last status told.
    pub(crate) fn status(&self) -> &str {
        let last = self.lines.last().expect("a line");
        last["status"].as_str().expect("a status")
    }

    /// Why it failed.
    pub(crate) fn error(&self) -> &str {
        let last = self.lines.last().expect("a line");
        last["error"].as_str().unwrap_or_default()
    }

    /// Everything that was logged.
    pub(crate) fn log(&self) -> String {
        let lines = self.lines.iter().filter_map(|line| line["log"].as_array());
        let lines: Vec<&str> = lines.flatten().filter_map(Value::as_str).collect();
        lines.join("\n")
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.status(), "success", "{self:#?}");
        self
    }
}

/// The tar of a context: the folder itself, its files, and what to make of it.
pub(crate) fn context(image: &str, files: &Files<'_>) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut folder = tar::Header::new_gnu();
    folder.set_entry_type(tar::EntryType::Directory);
    folder.set_mode(0o700);
    folder.set_size(0);
    let none: &[u8] = &[];
    archive
        .append_data(&mut folder, "context", none)
        .expect("a folder");
    let config = json!({"image": image, "buildArgs": {"ADDITIONAL_PACKAGE": ""}}).to_string();
    let files = files
        .iter()
        .map(|(name, content)| (format!("context/{name}"), *content));
    let config = [("com.openfaas.docker.config".to_owned(), config.as_str())];
    for (name, content) in files.chain(config) {
        let mut header = tar::Header::new_gnu();
        header.set_mode(if content.starts_with("#!") {
            0o755
        } else {
            0o644
        });
        header.set_size(content.len() as u64);
        archive
            .append_data(&mut header, name, content.as_bytes())
            .expect("a file");
    }
    archive.into_inner().expect("an archive")
}

/// `sha256=` and the HMAC of the body, in hexadecimal digits.
pub(crate) fn signature(key: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let tag = hmac::sign(&key, body);
    let digits: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256={digits}")
}

/// What a template is, as its folder says.
pub(crate) fn template(language: &str, process: &str) -> String {
    format!("language: {language}\nfprocess: {process}\n")
}

impl Server {
    /// A request with the credentials that `faas-cli login` keeps.
    pub(crate) fn faas(&self, method: &str, target: &str) -> Call {
        let pair = STANDARD.encode(format!("admin:{}", self.key()));
        self.call(method, target)
            .header("authorization", &format!("Basic {pair}"))
            .header("user-agent", "faas-cli/0.18.12")
    }

    /// The same with a JSON body.
    pub(crate) fn faas_json(&self, method: &str, target: &str, body: &Value) -> Reply {
        self.faas(method, target)
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
    }

    /// Sends a context to be built.
    #[track_caller]
    pub(crate) fn faas_build(&self, image: &str, files: &Files<'_>) -> Built {
        let body = context(image, files);
        let reply = self
            .call("POST", "/build")
            .header("content-type", "application/octet-stream")
            .header("accept", "application/x-ndjson")
            .header("x-build-signature", &signature(&self.key(), &body))
            .body(body)
            .send()
            .status(200);
        let lines = reply.body.lines().map(|line| {
            let line = line.expect("text");
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
        });
        Built {
            lines: lines.collect(),
        }
    }

    /// Deploys as the command line does: an update, and where there is nothing to update, a function.
    #[track_caller]
    pub(crate) fn faas_deploy(&self, deployment: &Value) -> Reply {
        let updated = self.faas_json("PUT", "/system/functions", deployment);
        if updated.status == 404 {
            return self.faas_json("POST", "/system/functions", deployment);
        }
        updated
    }

    /// Builds and deploys a handler of a template, and waits until it is ready. `more` is merged into the deployment.
    #[track_caller]
    pub(crate) fn faas_up(
        &self,
        name: &str,
        (language, process): (&str, &str),
        files: &Files<'_>,
        more: Value,
    ) -> Built {
        let image = format!("{name}:latest");
        let described = template(language, process);
        let mut all = vec![("template.yml", described.as_str())];
        let handlers: Vec<(String, &str)> = files
            .iter()
            .map(|(file, content)| (format!("function/{file}"), *content))
            .collect();
        all.extend(
            handlers
                .iter()
                .map(|(file, content)| (file.as_str(), *content)),
        );
        let built = self.faas_build(&image, &all).ok();
        let mut deployment = json!({
            "service": name, "image": image, "envProcess": process,
            "labels": {}, "annotations": {},
        });
        if let (Some(deployment), Value::Object(more)) = (deployment.as_object_mut(), more) {
            deployment.extend(more);
        }
        self.faas_deploy(&deployment).status(202);
        self.faas_ready(name);
        built
    }

    /// Waits until a replica is available.
    #[track_caller]
    pub(crate) fn faas_ready(&self, name: &str) {
        let mut last = Value::Null;
        until("a replica is available", || {
            last = self.faas_function(name);
            last["availableReplicas"].as_u64().unwrap_or(0) > 0
        });
    }

    /// A function as `describe` asks for it.
    #[track_caller]
    pub(crate) fn faas_function(&self, name: &str) -> Value {
        let route = format!("/system/function/{name}?usage=1");
        self.faas("GET", &route).send().status(200).json()
    }

    /// Calls as `invoke` does.
    pub(crate) fn faas_invoke(&self, name: &str, body: impl Into<Vec<u8>>) -> Reply {
        self.call("POST", &format!("/function/{name}.openfaas-fn"))
            .header("content-type", "text/plain")
            .header("user-agent", "faas-cli/0.18.12 (openfaas; linux; amd64)")
            .body(body)
            .send()
    }
}
