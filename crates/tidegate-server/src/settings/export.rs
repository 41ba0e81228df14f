//! What is exported, and where to.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::time::Duration;

use tidegate_core::trace::Sampling;
use tidegate_egress::Upstreams;
use tidegate_otlp::{Attributes, Bounds, Endpoint, Headers, Options, ParseError};

use super::checked::SWITCH;
use super::layers::Layers;
use super::words::{duration, logging_filter, one_of, whole};

/// What is exported, and where to.
#[derive(Clone, Debug)]
pub struct ExportSettings {
    /// Where to, and how.
    pub options: Options,
    /// Which of the calls that come without a trace begin one that is kept; none begins any where absent.
    pub sampling: Option<Sampling>,
    /// Which lines of the server's log are exported.
    pub log: String,
}

impl Layers {
    /// `None` without an endpoint. The rest is checked in any case.
    pub(super) fn export(
        &mut self,
        environment: &impl Fn(&str) -> Option<OsString>,
    ) -> Option<ExportSettings> {
        let parse = |text: &str| match text {
            "off" => Ok(None),
            url => url.parse::<Endpoint>().map(Some),
        };
        let endpoint = self.get("otlp.endpoint", parse, || None);
        let text = |text: &str| Ok::<_, String>(Some(text.to_owned()));
        let service = self.get("otlp.service", text, || None);
        let attributes = |text: &str| text.parse::<Attributes>();
        let mut attributes = self.get("otlp.attributes", attributes, Attributes::default);
        let named = attributes.take("service.name");
        let headers = |text: &str| text.parse::<Headers>();
        let headers = self.get::<_, ParseError>("otlp.headers", headers, Headers::default);
        let traces = self.get("otlp.traces", one_of(&SWITCH), || true);
        let sample = self.get("otlp.sample", whole::<u32>, || 1);
        let sampling = NonZeroU32::new(sample).map(Sampling);
        let metrics = self.get("otlp.metrics", one_of(&SWITCH), || true);
        let logs = self.get("otlp.logs", one_of(&SWITCH), || true);
        let log = self.get("otlp.log-level", logging_filter, || "info".to_owned());
        let interval = self.get("otlp.interval", duration, || Duration::from_secs(60));
        // What is wrong with them is said where builds are settled.
        let upstreams = Upstreams::from_env(|name| environment(name)?.into_string().ok());
        Some(ExportSettings {
            options: Options {
                endpoint: endpoint?,
                headers,
                service: service.or(named).unwrap_or_else(|| "tidegate".to_owned()),
                attributes,
                traces,
                metrics,
                logs,
                interval,
                upstreams: upstreams.unwrap_or_default(),
                bounds: Bounds::default(),
            },
            sampling: sampling.filter(|_| traces),
            log,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    fn load(
        env: &[(&str, &str)],
        set: &[(&str, &str)],
    ) -> Result<Option<ExportSettings>, Vec<String>> {
        let environment = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.into())
        };
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let flags: Vec<_> = set.iter().map(owned).collect();
        let settings = Settings::load(None, environment, &flags);
        settings.map(|s| s.otlp).map_err(|e| e.mistakes)
    }

    #[test]
    fn nothing_is_exported_unless_somebody_says_where_to() {
        assert!(load(&[], &[]).unwrap().is_none());
        let variable = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")];
        let off = [("otlp.endpoint", "off")];
        assert!(load(&variable, &off).unwrap().is_none());
        let on = load(&variable, &[]).unwrap().unwrap();
        assert_eq!(on.options.endpoint.to_string(), "http://127.0.0.1:4318");
        assert_eq!(on.options.service, "tidegate");
        assert!(on.sampling.is_some());
    }

    #[test]
    fn opentelemetrys_variables_count_where_settings_are_silent() {
        let env = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://one:4318"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=named,a=b"),
            ("TIDEGATE_OTLP_ENDPOINT", "http://two:4318"),
        ];
        let settings = load(&env, &[("otlp.traces", "off")]).unwrap().unwrap();
        assert_eq!(settings.options.endpoint.to_string(), "http://two:4318");
        assert_eq!(settings.options.service, "named");
        assert!(settings.sampling.is_none());
        let settings = load(&env, &[("otlp.service", "mine")]).unwrap().unwrap();
        assert_eq!(settings.options.service, "mine");
    }

    #[test]
    fn a_mistake_in_a_secret_does_not_repeat_it() {
        let set = [("otlp.headers", "s3cret"), ("otlp.endpoint", "there")];
        let mistakes = load(&[], &set).unwrap_err();
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        assert!(!mistakes.concat().contains("s3cret"), "{mistakes:?}");
    }
}
