//! Which program an image holds. The registry, and what leads to the name, do not matter: a mirror serves the same.

use super::httpbin::Flavour;

/// What a container runs when its pod names no command, and what can be run in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// An HTTP server that tells what it was asked.
    Httpbin(Flavour),
    /// A shell, curl and small tools; with no command it ends at once with curl's own complaint.
    Curl,
    /// The same tools; with no command a shell that ends at once.
    Tools,
    /// Gateway API's server for conformance tests.
    EchoBasic,
    /// Sends back each line with a prefix.
    TcpEcho,
    /// Istio's proxy: pilot-agent and Envoy.
    Proxy,
    /// istiod.
    Istiod,
}

/// Last part of an image's name, and what it is. The one list of what this mesh can run.
const TABLE: &[(&str, Image)] = &[
    ("go-httpbin", Image::Httpbin(Flavour::Go)),
    ("mccutchen-go-httpbin", Image::Httpbin(Flavour::Go)),
    ("httpbin", Image::Httpbin(Flavour::Python)),
    ("curl", Image::Curl),
    ("sleep", Image::Tools),
    ("alpine", Image::Tools),
    ("busybox", Image::Tools),
    ("netshoot", Image::Tools),
    ("echo-basic", Image::EchoBasic),
    ("tcp-echo-server", Image::TcpEcho),
    ("tcp-echo", Image::TcpEcho),
    ("proxyv2", Image::Proxy),
    ("pilot", Image::Istiod),
];

/// An image's reference without registry, tag and digest: `a/b` of `docker.io/a/b:1@sha256:…`.
pub(super) fn repository(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    let name = match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    };
    match name.split_once('/') {
        Some((registry, rest)) if registry.contains(['.', ':']) || registry == "localhost" => rest,
        _ => name,
    }
}

/// The tag of an image's reference.
pub(super) fn tag(reference: &str) -> Option<&str> {
    let name = reference.split('@').next().unwrap_or(reference);
    name.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/'))
}

/// What an image holds.
///
/// # Errors
/// In the words of a container runtime that cannot pull it, with what there is.
pub fn find(reference: &str) -> Result<Image, String> {
    let name = repository(reference);
    let last = name.rsplit('/').next().unwrap_or(name);
    if let Some((_, image)) = TABLE.iter().find(|(known, _)| *known == last) {
        return Ok(*image);
    }
    let known: Vec<&str> = TABLE.iter().map(|(name, _)| *name).collect();
    Err(format!(
        "failed to pull and unpack image {:?}: this simulated mesh has no program of the name {last:?}; it has: {}",
        with_registry(reference),
        known.join(", ")
    ))
}

/// The reference as a runtime reports it. Source: `distribution/reference`, `ParseNormalizedNamed`.
#[must_use]
pub fn with_registry(reference: &str) -> String {
    let tagged = if reference.contains('@') || tag(reference).is_some() { reference.to_owned() } else { format!("{reference}:latest") };
    match tagged.split_once('/') {
        None => format!("docker.io/library/{tagged}"),
        Some((first, _)) if !first.contains(['.', ':']) && first != "localhost" => format!("docker.io/{tagged}"),
        Some(_) => tagged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_by_the_last_part_of_its_name() {
        for (reference, image) in [
            ("docker.io/curlimages/curl:8.17.0", Image::Curl),
            ("alpine/curl", Image::Curl),
            ("ghcr.io/mccutchen/go-httpbin:2.26.0", Image::Httpbin(Flavour::Go)),
            ("localhost:5000/kennethreitz/httpbin@sha256:abc", Image::Httpbin(Flavour::Python)),
            ("gcr.io/k8s-staging-gateway-api/echo-basic:v1", Image::EchoBasic),
            ("docker.io/istio/tcp-echo-server:1.3", Image::TcpEcho),
            ("kindlab/proxyv2:1.31-alpha", Image::Proxy),
        ] {
            assert_eq!(find(reference), Ok(image), "{reference}");
        }
        let error = find("nginx").unwrap_err();
        assert!(error.contains("docker.io/library/nginx:latest") && error.contains("go-httpbin"), "{error}");
    }

    #[test]
    fn a_port_is_no_tag() {
        assert_eq!((repository("localhost:5000/a/b"), tag("localhost:5000/a/b")), ("a/b", None));
        assert_eq!(tag("a/b:1.2"), Some("1.2"));
    }
}
