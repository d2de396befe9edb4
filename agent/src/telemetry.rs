//! Logs to standard error, traces to an OTLP collector if one is configured.
//!
//! In: [`Telemetry`] of the settings. Out: the process' one subscriber, and a [`Traces`] to be shut down at the end.
//! Metrics are in [`metrics`](crate::metrics).

use std::future::Future;
use std::io::IsTerminal;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};
use understudy_config::{LogFormat, Telemetry};

/// Time-out of one export; the spans of one that fails are lost, and nothing else waits for it.
const EXPORT: Duration = Duration::from_secs(5);
/// A collector's answer says how many spans it refused, in a few bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// How long the last spans may take when the daemon stops.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// The traces' way out; nothing where none is configured.
#[derive(Debug, Default)]
pub struct Traces(Option<SdkTracerProvider>);

/// Makes the process' subscriber. Called once, inside the runtime.
///
/// - `site`: named in every trace.
///
/// # Errors
/// A filter that can not be read, or an endpoint that can not be used.
pub fn start(settings: &Telemetry, site: &str) -> anyhow::Result<Traces> {
    let traces = Traces::to(settings, site)?;
    let logs = logs(settings, std::io::stderr, std::io::stderr().is_terminal())?;
    let spans = traces.layer();
    Registry::default().with(logs).with(spans).try_init().context("failed to start logging: it runs already")?;
    Ok(traces)
}

/// The layer that writes log lines.
fn logs<S, W>(settings: &Telemetry, writer: W, colours: bool) -> anyhow::Result<Box<dyn Layer<S> + Send + Sync>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&settings.log_filter)
        .with_context(|| format!("telemetry.log_filter: {:?} is no filter, such as `info`", settings.log_filter))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    Ok(match settings.log_format {
        LogFormat::Text => lines.with_ansi(colours).with_target(false).with_filter(filter).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_filter(filter).boxed(),
    })
}

impl Traces {
    fn to(settings: &Telemetry, site: &str) -> anyhow::Result<Self> {
        let Some(endpoint) = &settings.otlp_endpoint else { return Ok(Self(None)) };
        let client = reqwest::Client::builder().timeout(EXPORT).build().context("failed to make the OTLP client")?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(OnRuntime { runtime: Handle::current(), client })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(traces_url(endpoint))
            .with_timeout(EXPORT)
            .build()
            .with_context(|| format!("telemetry.otlp_endpoint: failed to export to {endpoint}"))?;
        let site = KeyValue::new("understudy.site", site.to_owned());
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder_empty().with_service_name("understudy").with_attributes([site, version]);
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build());
        Ok(Self(Some(provider.build())))
    }

    /// The layer that makes traces of plans and steps; whatever the log's filter is, and of nothing else.
    fn layer<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let tracer = self.0.as_ref()?.tracer("understudy");
        let ours = filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("understudy_"));
        Some(tracing_opentelemetry::layer().with_tracer(tracer).with_filter(ours))
    }

    /// Sends what is left, within a limit.
    pub async fn shutdown(self) {
        let Some(provider) = self.0 else { return };
        // It blocks until the exporter's thread is done, which in turn needs this runtime.
        let done = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(SHUTDOWN)).await;
        if !matches!(done, Ok(Ok(()))) {
            tracing::warn!("the last spans were not exported");
        }
    }
}

/// A collector is named by its base; a path that was written out is kept.
fn traces_url(endpoint: &url::Url) -> String {
    let mut url = endpoint.clone();
    if matches!(url.path(), "" | "/") {
        url.set_path("/v1/traces");
    }
    url.into()
}

/// Sends on our runtime: the exporter's own thread has none, and an async client panics there.
#[derive(Debug)]
struct OnRuntime {
    runtime: Handle,
    client: reqwest::Client,
}

impl HttpClient for OnRuntime {
    fn send_bytes<'a, 'f>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        let sending = self.runtime.spawn(send(self.client.clone(), request));
        Box::pin(async move { sending.await? })
    }
}

async fn send(client: reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let mut answer = client.execute(request.try_into()?).await?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err("the collector's answer is too large".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response::builder().status(answer.status()).body(Bytes::from(body))?)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::routing::post;
    use tokio::sync::mpsc;

    use super::*;
    use crate::observe::Observer;
    use crate::samples::failover;

    #[tokio::test]
    async fn a_plan_is_exported_as_a_trace_with_a_span_for_each_step() {
        install_provider();
        let (bodies, mut received) = mpsc::unbounded_channel();
        let collector = collector(bodies).await;
        let settings = Telemetry { otlp_endpoint: Some(collector), ..Telemetry::default() };
        let traces = Traces::to(&settings, "standby-b").unwrap();
        {
            let _guard = tracing::subscriber::set_default(Registry::default().with(traces.layer()));
            let mut observer = Observer::new(Arc::default());
            for (at, record) in failover() {
                observer.observe(at, &record);
            }
        }

        traces.shutdown().await;

        let body = received.recv().await.unwrap();
        for name in ["failover", "recheck", "route-check", "standby-b", "nexus-1"] {
            assert!(body.windows(name.len()).any(|w| w == name.as_bytes()), "{name} is not in the export");
        }
    }

    #[tokio::test]
    async fn without_an_endpoint_nothing_is_exported_and_shutdown_is_immediate() {
        let traces = Traces::to(&Telemetry::default(), "standby-b").unwrap();

        assert!(traces.0.is_none());
        traces.shutdown().await;
    }

    #[test]
    fn a_change_of_state_is_one_json_line_with_from_to_and_cause() {
        let settings = Telemetry { log_format: LogFormat::Json, ..Telemetry::default() };

        let lines = logged(&settings, &crate::samples::verdict());

        let line: serde_json::Value = serde_json::from_str(lines.trim()).unwrap();
        assert_eq!(
            (&line["from"], &line["to"], &line["cause"], &line["pair"]),
            (&"Up".into(), &"Suspect".into(), &"web is Down(refused)".into(), &"nexus".into())
        );
    }

    #[test]
    fn the_filter_decides_what_is_logged() {
        let settings = Telemetry { log_filter: "error".into(), ..Telemetry::default() };

        assert_eq!(logged(&settings, &crate::samples::verdict()), "");
    }

    #[test]
    fn a_filter_that_can_not_be_read_is_told_with_its_key() {
        let settings = Telemetry { log_filter: "=,=".into(), ..Telemetry::default() };

        let error = logs::<Registry, _>(&settings, std::io::sink, false).err().unwrap();

        assert!(error.to_string().starts_with("telemetry.log_filter: \"=,=\""), "{error}");
    }

    #[test]
    fn a_collector_is_named_by_its_base_or_by_its_whole_path() {
        let urls =
            ["http://c:4318", "http://c:4318/", "http://c/otlp/v1/traces"].map(|url| traces_url(&url.parse().unwrap()));

        assert_eq!(urls, ["http://c:4318/v1/traces", "http://c:4318/v1/traces", "http://c/otlp/v1/traces"]);
    }

    fn logged(settings: &Telemetry, record: &understudy_core::Record) -> String {
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = Written(written.clone());
        let layer = logs(settings, move || writer.clone(), false).unwrap();
        tracing::subscriber::with_default(Registry::default().with(layer), || {
            Observer::new(Arc::default()).observe(crate::samples::at(1), record);
        });
        String::from_utf8(written.lock().unwrap().clone()).unwrap()
    }

    #[derive(Clone)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    async fn collector(bodies: mpsc::UnboundedSender<Bytes>) -> url::Url {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let take = move |body: Bytes| async move { bodies.send(body).map_err(|_| http::StatusCode::GONE) };
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/v1/traces", post(take))).await });
        url
    }

    fn install_provider() {
        // A second installation is refused, and the first one is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
}
