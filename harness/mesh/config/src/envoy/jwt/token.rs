//! One token: its three parts and its claims (`source/common/jwt`).

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

/// Base64url, with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

const ALGORITHMS: &[&str] =
    &["ES256", "ES384", "ES512", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA"];

/// A token that could be read.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) signed: String,
    pub(super) payload_text: String,
    pub(super) signature: Vec<u8>,
    pub(super) header: Map<String, Value>,
    pub(super) payload: Map<String, Value>,
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    pub(super) iss: String,
    pub(super) sub: String,
    pub(super) audiences: Vec<String>,
    pub(super) nbf: Option<i64>,
    pub(super) exp: Option<i64>,
}

/// Envoy's words for what is wrong (`getStatusString`).
pub(super) type Status = &'static str;

impl Token {
    pub(super) fn parse(text: &str) -> Result<Self, Status> {
        const FORM: Status = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections";
        let (signed, signature_text) = text.rsplit_once('.').ok_or(FORM)?;
        let (header_text, payload_text) = signed.split_once('.').filter(|(_, payload)| !payload.contains('.')).ok_or(FORM)?;
        let header = BASE64.decode(header_text).map_err(|_| "Jwt header is an invalid Base64url encoded")?;
        let header: Map<String, Value> = serde_json::from_slice(&header).map_err(|_| "Jwt header is an invalid JSON")?;
        let alg = header.get("alg").and_then(Value::as_str).ok_or("Jwt header [alg] field is required and must be a string")?.to_owned();
        if !ALGORITHMS.contains(&alg.as_str()) {
            return Err("Jwt header [alg] is not supported");
        }
        let kid = optional(&header, "kid", "Jwt header [kid] field is not a string")?;
        let payload = BASE64.decode(payload_text).map_err(|_| "Jwt payload is an invalid Base64url encoded")?;
        let payload: Map<String, Value> = serde_json::from_slice(&payload).map_err(|_| "Jwt payload is an invalid JSON")?;
        let iss = optional(&payload, "iss", "Jwt payload [iss] field is not a string")?.unwrap_or_default();
        let sub = optional(&payload, "sub", "Jwt payload [sub] field is not a string")?.unwrap_or_default();
        number(&payload, "iat", "Jwt payload [iat] field is not an integer", "Jwt payload [iat] field is not a positive 64 bit integer")?;
        let nbf = number(
            &payload,
            "nbf",
            "Jwt payload [nbf] field is not an integer",
            "Jwt payload [nbf] field is not a positive 64 bit integer",
        )?;
        let exp = number(
            &payload,
            "exp",
            "Jwt payload [exp] field is not an integer",
            "Jwt payload [exp] field is not a positive 64 bit integer",
        )?;
        let audiences = audiences(&payload)?;
        let signature = BASE64.decode(signature_text).map_err(|_| "Jwt signature is an invalid Base64url encoded")?;
        Ok(Self {
            signed: signed.to_owned(),
            payload_text: payload_text.to_owned(),
            signature,
            header,
            payload,
            alg,
            kid,
            iss,
            sub,
            audiences,
            nbf,
            exp,
        })
    }

    /// Whether the time is right, with so many seconds of tolerance.
    pub(super) fn in_time(&self, now: i64, skew: i64) -> Result<(), Status> {
        if self.nbf.is_some_and(|nbf| now.saturating_add(skew) < nbf) {
            return Err("Jwt not yet valid");
        }
        if self.exp.is_some_and(|exp| now > exp.saturating_add(skew)) {
            return Err("Jwt is expired");
        }
        Ok(())
    }

    /// A claim as a header's value: strings, numbers, truths. Dots lead into objects.
    pub(super) fn claim_text(&self, name: &str) -> Option<String> {
        let mut value = self.payload.get(name);
        if value.is_none() {
            let mut keys = name.split('.');
            value = keys.next().and_then(|key| self.payload.get(key));
            for key in keys {
                value = value.and_then(|value| value.get(key));
            }
        }
        match value? {
            Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            _ => None,
        }
    }
}

fn optional(map: &Map<String, Value>, key: &str, wrong: Status) -> Result<Option<String>, Status> {
    map.get(key).map(|value| value.as_str().map(str::to_owned).ok_or(wrong)).transpose()
}

fn number(map: &Map<String, Value>, key: &str, wrong: Status, range: Status) -> Result<Option<i64>, Status> {
    let Some(value) = map.get(key) else { return Ok(None) };
    match value.as_f64() {
        None => Err(wrong),
        Some(negative) if negative < 0.0 => Err(range),
        // Whole seconds; a fraction is cut off, as a conversion to an integer does.
        #[allow(clippy::cast_possible_truncation)]
        Some(number) => {
            value.as_i64().map_or_else(|| if number < 9.2e18 { Ok(Some(number as i64)) } else { Err(range) }, |whole| Ok(Some(whole)))
        }
    }
}

fn audiences(payload: &Map<String, Value>) -> Result<Vec<String>, Status> {
    const WRONG: Status = "Jwt payload [aud] field is not a string or string list";
    match payload.get("aud") {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(Value::Array(list)) => list.iter().map(|value| value.as_str().map(str::to_owned).ok_or(WRONG)).collect(),
        Some(_) => Err(WRONG),
    }
}
