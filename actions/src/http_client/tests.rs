use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::Method;

use super::*;
use crate::testing::{nobody, scripted, serve, silent};

const SOON: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_refused_connection_is_known_not_to_have_been_sent() {
    let url = url(&format!("http://{}/", nobody().await));

    let error = get_from(&url, None).await.unwrap_err();

    assert!(matches!(error, HttpError::NotSent { .. }), "{error:?}");
    assert!(matches!(error.of_write("x"), StepError::Transient { .. }));
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_known_not_to_have_been_sent() {
    let error = get_from(&url("http://no-such-host.invalid/"), None).await.unwrap_err();

    assert!(matches!(error, HttpError::NotSent { .. }), "{error:?}");
}

#[tokio::test]
async fn a_tls_handshake_that_hangs_is_known_not_to_have_been_sent() {
    let url = url(&format!("https://{}/", silent().await));
    let endpoint = Endpoint::open(Reach { url: &url, connect_to: None, ca: None }, SOON).await.unwrap();

    let error = endpoint.call(endpoint.request(Method::GET), 100).await.unwrap_err();

    assert!(matches!(error, HttpError::NotSent { .. }), "{error:?}");
}

#[tokio::test]
async fn silence_after_the_request_is_an_unknown_outcome_of_a_write_and_no_harm_to_a_read() {
    let url = url(&format!("http://{}/", silent().await));
    let endpoint = Endpoint::open(Reach { url: &url, connect_to: None, ca: None }, SOON).await.unwrap();
    let call = || endpoint.call(endpoint.request(Method::POST), 100);

    let (write, read) = (call().await.unwrap_err().of_write("x"), call().await.unwrap_err().of_read("x"));

    assert!(matches!(write, StepError::Unknown { .. }), "{write:?}");
    assert!(matches!(read, StepError::Transient { .. }), "{read:?}");
}

#[tokio::test]
async fn a_connection_that_ends_without_an_answer_is_an_unknown_outcome() {
    let url = url(&format!("http://{}/", scripted(b"").await));

    let error = get_from(&url, None).await.unwrap_err();

    assert!(matches!(error, HttpError::Lost { .. }), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_is_shorter_than_its_length_is_cut() {
    let url = url(&format!("http://{}/", scripted(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").await));

    let error = get_from(&url, None).await.unwrap_err();

    assert!(matches!(error, HttpError::Cut { received: 3, .. }), "{error:?}");
}

#[tokio::test]
async fn an_endless_answer_is_cut_at_the_limit() {
    let endless = || async {
        let pieces = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[b'x'; 512])));
        axum::body::Body::from_stream(pieces)
    };
    let url = url(&format!("http://{}/", serve(Router::new().route("/", get(endless))).await));

    let error = get_from(&url, None).await.unwrap_err();

    assert_eq!(error.to_string(), format!("the answer of {} is longer than 1024 bytes", shown(&url)));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let away = || async { axum::response::Redirect::temporary("/elsewhere") };
    let url = url(&format!("http://{}/", serve(Router::new().route("/", get(away))).await));

    let answer = get_from(&url, None).await.unwrap();

    assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
}

#[tokio::test]
async fn connect_to_leads_elsewhere_and_the_server_still_hears_the_name_of_the_url() {
    let host = |headers: HeaderMap| async move { headers["host"].to_str().unwrap().to_owned() };
    let address = serve(Router::new().route("/{*path}", get(host))).await;
    let to = Some(ConnectTo { ip: address.ip(), port: Some(address.port()) });

    for (written, heard) in [
        ("http://nexus.invalid/a", "nexus.invalid"),
        ("http://nexus.invalid:8081/a", "nexus.invalid:8081"),
        ("http://192.0.2.1:8081/a", "192.0.2.1:8081"),
        ("http://[2001:db8::1]/a", "[2001:db8::1]"),
    ] {
        let answer = get_from(&url(written), to).await.unwrap();

        assert_eq!(answer.body, heard, "{written}");
    }
}

#[tokio::test]
async fn connect_to_without_a_port_keeps_that_of_the_url() {
    let address = serve(Router::new().route("/", get(|| async { "here" }))).await;
    let to = Some(ConnectTo { ip: address.ip(), port: None });

    let answer = get_from(&url(&format!("http://nexus.invalid:{}/", address.port())), to).await.unwrap();

    assert_eq!(answer.body, "here");
}

#[tokio::test]
async fn a_path_below_the_url_keeps_the_urls_own_path() {
    let echo = |uri: http::Uri| async move { uri.to_string() };
    let address = serve(Router::new().route("/{*path}", get(echo))).await;
    let url = url(&format!("http://{address}/nexus/"));
    let endpoint = Endpoint::open(Reach { url: &url, connect_to: None, ca: None }, SOON).await.unwrap();

    let request = endpoint.request_below(Method::GET, "service/rest/v1/assets", &[("repository", "a b&c")]);
    let answer = endpoint.call(request, 1024).await.unwrap();

    assert_eq!(answer.body, "/nexus/service/rest/v1/assets?repository=a+b%26c");
}

#[tokio::test]
async fn tls_is_checked_against_the_urls_host_and_the_given_roots() {
    let (address, ca) = tls_server("nexus.example.net").await;
    let to = Some(ConnectTo { ip: address.ip(), port: Some(address.port()) });
    let ask = |written: &'static str, ca: Option<PathBuf>| async move {
        let url = url(written);
        let endpoint = Endpoint::open(Reach { url: &url, connect_to: to, ca: ca.as_ref() }, 5 * SOON).await.unwrap();
        endpoint.call(endpoint.request(Method::GET), 1024).await
    };

    let right = ask("https://nexus.example.net/", Some(ca.path().into())).await;
    let wrong_name = ask("https://other.example.net/", Some(ca.path().into())).await;
    let unknown_roots = ask("https://nexus.example.net/", None).await;

    assert_eq!(right.unwrap().body, "over tls");
    assert!(matches!(wrong_name, Err(HttpError::NotSent { .. })), "{wrong_name:?}");
    assert!(matches!(unknown_roots, Err(HttpError::NotSent { .. })), "{unknown_roots:?}");
}

#[tokio::test]
async fn what_can_not_be_called_is_said_before_anything_is_sent() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (empty, missing) = (file.path().to_path_buf(), PathBuf::from("/no/such/ca.pem"));
    let to = Some(ConnectTo { ip: [10, 2, 0, 20].into(), port: None });
    let table = [
        ("ftp://nexus.example.net/", None, None, "its scheme is neither http nor https"),
        ("https://192.0.2.1/", to, None, "needs a host name"),
        ("https://nexus.example.net/", None, Some(&missing), "its CA file"),
        ("https://nexus.example.net/", None, Some(&empty), "its CA file"),
    ];
    for (written, connect_to, ca, expected) in table {
        let url = url(written);

        let error = Endpoint::open(Reach { url: &url, connect_to, ca }, SOON).await.unwrap_err();

        assert!(error.to_string().contains(expected), "{written}: {error}");
        assert!(matches!(error.of_write("x"), StepError::Permanent { .. }));
    }
}

#[tokio::test]
async fn no_message_shows_path_or_query_of_a_url() {
    let secret = url(&format!("http://{}/hook/SECRET?access_token=SECRET", nobody().await));

    let error = get_from(&secret, None).await.unwrap_err();

    let StepErrorText(text) = StepErrorText::of(error.of_write("failed to call"));
    assert!(!text.contains("SECRET"), "{text}");
    assert!(text.contains("127.0.0.1"), "{text}");
}

struct StepErrorText(String);

impl StepErrorText {
    fn of(error: StepError) -> Self {
        match error.into_result() {
            understudy_core::StepResult::Failed { message, .. } => Self(message),
            done => panic!("{done:?}"),
        }
    }
}

fn url(text: &str) -> Url {
    text.parse().unwrap()
}

async fn get_from(url: &Url, connect_to: Option<ConnectTo>) -> Result<Answer, HttpError> {
    let endpoint = Endpoint::open(Reach { url, connect_to, ca: None }, 10 * SOON).await?;
    endpoint.call(endpoint.request(Method::GET), 1024).await
}

/// A server with a certificate for `name`, and the file with its root.
async fn tls_server(name: &str) -> (SocketAddr, tempfile::NamedTempFile) {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    provide_crypto();
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nover tls").await;
            let _ = stream.shutdown().await;
        }
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), made.cert.pem()).unwrap();
    (address, file)
}
