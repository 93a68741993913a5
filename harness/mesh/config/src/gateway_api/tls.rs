//! TLS of a listener (Istio: `buildTLS`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::objects::Target;
use super::{Fault, Objects};
use crate::istio::model::object;

/// An option of a listener that asks for client certificates.
const MODE: &str = "gateway.istio.io/tls-terminate-mode";
/// An option of a listener with cipher suites.
const CIPHERS: &str = "gateway.istio.io/tls-cipher-suites";

/// The TLS settings of Istio's server for a listener, if it has any, and what is wrong with them.
pub(super) fn server(objects: &Objects<'_>, gateway: &Value, listener: &Value) -> (Option<Value>, Option<Fault>) {
    let Some(tls) = listener.get("tls").filter(|tls| tls.is_object()) else { return (None, None) };
    let mut out = Map::new();
    let fault = match object::text(tls, "/mode") {
        "" | "Terminate" => terminate(objects, gateway, listener, tls, &mut out).err(),
        "Passthrough" => {
            // A listener with this option of a gateway between networks takes the name to be that of a cluster.
            let is_automatic =
                option(tls, "gateway.istio.io/listener-protocol") == "auto-passthrough" || labelled_for_auto_passthrough(gateway, listener);
            out.insert("mode".to_owned(), json!(if is_automatic { "AUTO_PASSTHROUGH" } else { "PASSTHROUGH" }));
            None
        }
        _ => None,
    };
    let ciphers: Vec<&str> = option(tls, CIPHERS).split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if fault.is_none() && !ciphers.is_empty() {
        out.insert("cipherSuites".to_owned(), json!(ciphers));
    }
    (Some(Value::Object(out)), fault)
}

fn option<'t>(tls: &'t Value, key: &str) -> &'t str {
    tls.get("options").and_then(|options| options.get(key)).and_then(Value::as_str).unwrap_or_default()
}

/// Istio: `kube.IsAutoPassthrough`: the port that the label names, or the usual one.
fn labelled_for_auto_passthrough(gateway: &Value, listener: &Value) -> bool {
    let labels = object::labels(gateway);
    labels.contains_key("topology.istio.io/network")
        && listener
            .get("port")
            .and_then(Value::as_u64)
            .is_some_and(|port| labels.get("networking.istio.io/gatewayPort").map_or(port == 15443, |named| *named == port.to_string()))
}

fn terminate(objects: &Objects<'_>, gateway: &Value, listener: &Value, tls: &Value, out: &mut Map<String, Value>) -> Result<(), Fault> {
    let asked = option(tls, MODE);
    let mode = match asked {
        "MUTUAL" | "OPTIONAL_MUTUAL" => asked,
        "ISTIO_MUTUAL" => {
            out.insert("mode".to_owned(), json!(asked));
            return Ok(());
        }
        _ => "SIMPLE",
    };
    out.insert("mode".to_owned(), json!(mode));
    if asked == "ISTIO_SIMPLE" {
        out.insert("credentialName".to_owned(), json!("builtin://"));
        return Ok(());
    }
    let references = object::list(tls, "/certificateRefs");
    if references.len() > 2 {
        return Err(Fault::new("InvalidCertificateRef", "TLS mode can only support up to 2 server certificates"));
    }
    let (mut names, mut wrong) = (Vec::new(), None::<Fault>);
    for reference in references {
        match certificate(objects, gateway, reference) {
            Ok(name) => names.push(name),
            Err(fault) => match &mut wrong {
                Some(first) => first.message = format!("{}; {}", first.message, fault.message),
                None => wrong = Some(fault),
            },
        }
    }
    // One certificate of two is enough.
    match names.as_slice() {
        [] => return wrong.map_or(Ok(()), Err),
        [only] => out.insert("credentialName".to_owned(), json!(only)),
        several => out.insert("credentialNames".to_owned(), json!(several)),
    };
    let Some(validation) = frontend(gateway, listener) else { return Ok(()) };
    let authority = match object::list(validation, "/caCertificateRefs") {
        [] => return Ok(()),
        [only] => authority(objects, gateway, only)?,
        _ => return Err(Fault::new("InvalidCACertificateRef", "only one caCertificateRef is supported")),
    };
    let is_lenient = object::text(validation, "/mode") == "AllowInsecureFallback";
    let (mode, skip) = match asked {
        "MUTUAL" | "OPTIONAL_MUTUAL" => (asked, false),
        _ if is_lenient => ("OPTIONAL_MUTUAL", true),
        _ => ("MUTUAL", false),
    };
    out.insert("mode".to_owned(), json!(mode));
    out.insert("insecureSkipVerify".to_owned(), json!(skip));
    out.insert("caCertCredentialName".to_owned(), json!(authority));
    Ok(())
}

/// What a Gateway says of clients' certificates for the port of a listener (`resolveGatewayTLS`).
fn frontend<'a>(gateway: &'a Value, listener: &Value) -> Option<&'a Value> {
    let frontend = gateway.pointer("/spec/tls/frontend")?;
    let port = listener.get("port").and_then(Value::as_u64);
    let of_port = object::list(frontend, "/perPort").iter().find(|one| one.get("port").and_then(Value::as_u64) == port);
    match of_port {
        Some(own) => own.pointer("/tls/validation"),
        None => frontend.pointer("/default/validation"),
    }
}

/// Whether a Gateway lets clients through whose certificate is not good.
pub(super) fn is_lenient(gateway: &Value) -> bool {
    let Some(frontend) = gateway.pointer("/spec/tls/frontend") else { return false };
    let lenient = |at: &Value, pointer: &str| object::text(at, pointer) == "AllowInsecureFallback";
    lenient(frontend, "/default/validation/mode")
        || object::list(frontend, "/perPort").iter().any(|one| lenient(one, "/tls/validation/mode"))
}

/// A reference as messages show it.
fn shown(reference: &Value) -> String {
    let text = |at: &str| object::text(reference, at);
    format!("{}/{}/{}.{}", text("/group"), text("/kind"), text("/name"), text("/namespace"))
}

fn namespace_of<'t>(reference: &'t Value, own: &'t str) -> &'t str {
    match object::text(reference, "/namespace") {
        "" => own,
        namespace => namespace,
    }
}

/// The certificate that a listener names, as Istio names secrets. Whether it may be named is asked before whether it is there.
fn certificate(objects: &Objects<'_>, gateway: &Value, reference: &Value) -> Result<String, Fault> {
    let own = object::namespace(gateway);
    let (name, namespace) = (object::text(reference, "/name"), namespace_of(reference, own));
    if !objects.is_granted(("Gateway", own), &Target { kind: "Secret", namespace, name }) {
        let text =
            format!("certificateRef {name}/{namespace} not accessible to a Gateway in namespace {own:?} (missing a ReferenceGrant?)");
        return Err(Fault::new("RefNotPermitted", text));
    }
    let invalid = |why: &str| Fault::new("InvalidCertificateRef", format!("invalid certificate reference {}, {why}", shown(reference)));
    key_pair(objects, reference, namespace).map_err(|why| invalid(&why))?;
    Ok(format!("kubernetes-gateway://{namespace}/{name}"))
}

/// Whether a reference is to a Secret with a certificate and a key.
fn key_pair(objects: &Objects<'_>, reference: &Value, namespace: &str) -> Result<(), String> {
    let name = object::text(reference, "/name");
    let kind = reference.get("kind").and_then(Value::as_str).unwrap_or("Secret");
    if (object::text(reference, "/group"), kind) != ("", "Secret") {
        return Err("only secret is allowed".to_owned());
    }
    let Some(secret) = objects.find("Secret", namespace, name) else {
        return Err(format!("secret {namespace}/{name} not found"));
    };
    let pair = |chain: &str, key: &str| Some((entry(secret, chain)?, entry(secret, key)?));
    let Some((chain, key)) = pair("cert", "key").or_else(|| pair("tls.crt", "tls.key")) else {
        return Err("found secret, but didn't have expected keys (cert and key) or (tls.crt and tls.key)".to_owned());
    };
    if !has_block(&chain, "CERTIFICATE") {
        return Err("the certificate is malformed: tls: failed to find any PEM data in certificate input".to_owned());
    }
    if !has_block(&key, "PRIVATE KEY") {
        return Err("the certificate is malformed: tls: failed to find any PEM data in key input".to_owned());
    }
    Ok(())
}

/// What is wrong with the certificate that a Gateway shows to backends (`validateBackendClientCertificateRef`).
pub(super) fn client_certificate(objects: &Objects<'_>, gateway: &Value) -> Option<Fault> {
    let reference = gateway.pointer("/spec/tls/backend/clientCertificateRef")?;
    let own = object::namespace(gateway);
    let (name, namespace) = (object::text(reference, "/name"), namespace_of(reference, own));
    if let Err(why) = key_pair(objects, reference, namespace) {
        return Some(Fault::new("InvalidClientCertificateRef", format!("invalid clientCertificateRef {}, {why}", shown(reference))));
    }
    let is_granted = objects.is_granted(("Gateway", own), &Target { kind: "Secret", namespace, name });
    (!is_granted).then(|| {
        let what = format!("clientCertificateRef {name}/{namespace} not accessible to a Gateway in namespace {own:?}");
        Fault::new("RefNotPermitted", format!("{what} (missing a ReferenceGrant?)"))
    })
}

/// The CA that clients' certificates are checked by, as Istio names secrets (`buildCaCertificateReference`).
fn authority(objects: &Objects<'_>, gateway: &Value, reference: &Value) -> Result<String, Fault> {
    let own = object::namespace(gateway);
    let (name, namespace) = (object::text(reference, "/name"), namespace_of(reference, own));
    let invalid =
        |reason: &'static str, why: String| Fault::new(reason, format!("invalid CA certificate reference {}, {why}", shown(reference)));
    let (kind, scheme, words) = match (object::text(reference, "/group"), object::text(reference, "/kind")) {
        ("", "Secret") => ("Secret", "kubernetes-gateway", "secret"),
        _ => ("ConfigMap", "configmap", "configmap"),
    };
    if !objects.is_granted(("Gateway", own), &Target { kind, namespace, name }) {
        let what = format!("caCertificateRef {namespace}/{name} not accessible to a Gateway in namespace {own:?}");
        return Err(Fault::new("RefNotPermitted", format!("{what} (missing a ReferenceGrant?)")));
    }
    if !matches!((object::text(reference, "/group"), object::text(reference, "/kind")), ("", "Secret" | "ConfigMap")) {
        return Err(invalid("InvalidCACertificateKind", "only secret and configmap are allowed".to_owned()));
    }
    let Some(found) = objects.find(kind, namespace, name) else {
        return Err(invalid("InvalidCACertificateRef", format!("{words} {namespace}/{name} not found")));
    };
    let Some(bundle) = entry(found, "cacert").or_else(|| entry(found, "ca.crt")) else {
        return Err(invalid("InvalidCACertificateRef", format!("found {words}, but didn't have expected keys cacert or ca.crt")));
    };
    if !has_block(&bundle, "CERTIFICATE") {
        return Err(invalid("InvalidCACertificateRef", "the bundle is malformed".to_owned()));
    }
    Ok(format!("{scheme}://{namespace}/{name}-cacert"))
}

/// An entry of a Secret or ConfigMap.
fn entry(holder: &Value, key: &str) -> Option<String> {
    let plain = |at: &str| holder.get(at)?.get(key)?.as_str().map(str::to_owned);
    if object::text(holder, "/kind") == "ConfigMap" {
        return plain("data");
    }
    plain("stringData").or_else(|| String::from_utf8(STANDARD.decode(plain("data")?.split_whitespace().collect::<String>()).ok()?).ok())
}

/// Whether a text has a PEM block (RFC 7468) whose label ends so and whose content can be ASN.1, which begins with a SEQUENCE.
fn has_block(text: &str, label: &str) -> bool {
    let mut blocks = text.split("-----BEGIN ").skip(1);
    blocks.any(|block| {
        let Some((head, rest)) = block.split_once("-----") else { return false };
        let Some((body, _)) = rest.split_once("-----END ") else { return false };
        let body: String = body.split_whitespace().collect();
        head.ends_with(label) && STANDARD.decode(body).is_ok_and(|bytes| bytes.first() == Some(&0x30))
    })
}
