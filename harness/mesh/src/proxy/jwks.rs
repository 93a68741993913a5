//! Signatures of tokens: the cryptography that the reading half asks for.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gateproof_mesh_config::envoy::jwt::{JwksSource, SignatureAnswer, SignatureQuestion};
use ring::hmac;
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde_json::Value;

/// Whether a token was signed by one of the provider's keys (RFC 7515, RFC 7517, RFC 7518).
pub(super) fn check(question: SignatureQuestion<'_>) -> SignatureAnswer {
    let JwksSource::Inline(text) = &question.provider.jwks else { return SignatureAnswer::NoJwks };
    let Ok(set) = serde_json::from_str::<Value>(text) else { return SignatureAnswer::NoJwks };
    let keys = set.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let field = |key: &Value, name: &str| key.get(name).and_then(Value::as_str).map(str::to_owned);
    let fits = |key: &&Value| {
        let kid = field(key, "kid");
        // A token or a key without a `kid` is tried with all (`jwt_verify_lib`).
        (question.kid.is_none() || kid.is_none() || kid.as_deref() == question.kid)
            && field(key, "alg").is_none_or(|alg| alg == question.alg)
            && field(key, "kty").is_some_and(|kty| kty == key_type(question.alg))
    };
    let mut answer = SignatureAnswer::NoKey;
    for key in keys.iter().filter(fits) {
        if verify(key, &question).unwrap_or(false) {
            return SignatureAnswer::Good;
        }
        answer = SignatureAnswer::Bad;
    }
    answer
}

fn key_type(alg: &str) -> &'static str {
    match alg.get(..2) {
        Some("RS" | "PS") => "RSA",
        Some("ES") => "EC",
        Some("HS") => "oct",
        _ => "OKP",
    }
}

fn bytes(key: &Value, name: &str) -> Option<Vec<u8>> {
    let text = key.get(name)?.as_str()?;
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).or_else(|_| STANDARD.decode(text)).ok()
}

fn verify(key: &Value, question: &SignatureQuestion<'_>) -> Option<bool> {
    let (signed, given) = (question.signed.as_bytes(), question.signature);
    let rsa: Option<&RsaParameters> = match question.alg {
        "RS256" => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        "RS384" => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        "RS512" => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        "PS256" => Some(&signature::RSA_PSS_2048_8192_SHA256),
        "PS384" => Some(&signature::RSA_PSS_2048_8192_SHA384),
        "PS512" => Some(&signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    };
    if let Some(algorithm) = rsa {
        let key = RsaPublicKeyComponents { n: bytes(key, "n")?, e: bytes(key, "e")? };
        return Some(key.verify(algorithm, signed, given).is_ok());
    }
    let shared = match question.alg {
        "HS256" => Some(hmac::HMAC_SHA256),
        "HS384" => Some(hmac::HMAC_SHA384),
        "HS512" => Some(hmac::HMAC_SHA512),
        _ => None,
    };
    if let Some(algorithm) = shared {
        return Some(hmac::verify(&hmac::Key::new(algorithm, &bytes(key, "k")?), signed, given).is_ok());
    }
    let (algorithm, public): (&dyn VerificationAlgorithm, Vec<u8>) = match question.alg {
        "ES256" => (&signature::ECDSA_P256_SHA256_FIXED, point(key)?),
        "ES384" => (&signature::ECDSA_P384_SHA384_FIXED, point(key)?),
        "EdDSA" => (&signature::ED25519, bytes(key, "x")?),
        _ => return None,
    };
    Some(UnparsedPublicKey::new(algorithm, public).verify(signed, given).is_ok())
}

/// SEC 1, section 2.3.3, uncompressed.
fn point(key: &Value) -> Option<Vec<u8>> {
    Some([vec![4], bytes(key, "x")?, bytes(key, "y")?].concat())
}
