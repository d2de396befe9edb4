//! The few words of HTTP that all stand-ins speak: one connection served, answers built.
//!
//! In: a `Wire` or any stream, and a function from request to answer. Out: HTTP/1.1 with a `Date`
//! header and canonical header names, as the real servers send. Start at [`service`].

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::port::Handler;

/// A body that may also be a stream without end.
pub type Body = BoxBody<Bytes, io::Error>;
/// What a stand-in answers.
pub type Answer = Response<Body>;
/// From one request to one answer.
pub type Service = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Answer> + Send + Sync>;

/// The longest request body a stand-in takes: an artifact of a rehearsal is far smaller.
const LONGEST_REQUEST: usize = 64 << 20;

/// A port handler that speaks plain HTTP/1.1 with `service`.
pub fn handler(service: Service) -> Handler {
    Arc::new(move |wire| Box::pin(serve(wire, service.clone())))
}

/// A service from an async function.
pub fn service<F, Fut>(function: F) -> Service
where
    F: Fn(Request<Incoming>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    Arc::new(move |request| Box::pin(function(request)))
}

/// Serves one connection until the client leaves.
pub async fn serve<S>(stream: S, service: Service)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let call = hyper::service::service_fn(move |request| {
        let answer = service(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    // An error here is the client's leaving, or a body that was cut short on purpose.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), call)
        .await;
}

/// The whole body of a request.
pub async fn collect(body: Incoming) -> Result<Bytes, io::Error> {
    Limited::new(body, LONGEST_REQUEST).collect().await.map(|collected| collected.to_bytes()).map_err(io::Error::other)
}

/// A body that is all there.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A body that sends nothing and ends: with a `Content-Length` it is a truncated one.
pub fn cut_short() -> Body {
    let end = futures::stream::once(async {
        // A body that has nothing yet lets the headers out, before the connection is closed on the client.
        tokio::task::yield_now().await;
        Err::<Frame<Bytes>, _>(io::Error::other("the blob is gone"))
    });
    BodyExt::boxed(StreamBody::new(end))
}

/// A body that fails at once, so that not even the headers get out.
pub fn never_sent() -> Body {
    let end = futures::stream::once(async { Err::<Frame<Bytes>, _>(io::Error::other("the answer is lost")) });
    BodyExt::boxed(StreamBody::new(end))
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(full(Bytes::new()));
    *answer.status_mut() = status;
    answer
}

/// An answer of a content type.
pub fn typed(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(full(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, content_type.parse().expect("a content type is a valid header"));
    answer
}

/// A JSON answer.
pub fn json(status: StatusCode, value: &serde_json::Value) -> Answer {
    typed(status, "application/json", value.to_string())
}

/// The value of `name` in a query string, decoded.
pub fn query(request_uri: &http::Uri, name: &str) -> Option<String> {
    url::form_urlencoded::parse(request_uri.query()?.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}
