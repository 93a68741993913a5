//! What the filter does with a request (`source/extensions/filters/http/jwt_authn/{extractor,authenticator,verifier}.cc`).

use std::collections::BTreeMap;

use serde_json::Value;

use super::token::{Status, Token};
use super::{JwtAuthn, JwtVerdict, PerRouteJwt, Provider, Requirement, SignatureAnswer, SignatureQuestion};
use crate::envoy::headers::Headers;
use crate::envoy::http_filter::is_preflight;
use crate::envoy::matchers::query_parameter;

const MISSING: Status = "Jwt is missing";
const UNKNOWN_ISSUER: Status = "Jwt issuer is not configured";
const AUDIENCE: Status = "Audiences in Jwt are not allowed";

/// Where a token was found.
enum Place {
    Header(String),
    Parameter(String),
    Cookie,
}

struct Extracted<'a> {
    text: String,
    place: Place,
    providers: Vec<&'a Provider>,
}

/// What good tokens leave behind.
#[derive(Default)]
struct Effects {
    metadata: BTreeMap<String, Value>,
    set: Vec<(String, String)>,
    remove: Vec<String>,
    remove_parameters: Vec<String>,
}

struct Check<'a> {
    filter: &'a JwtAuthn,
    headers: &'a Headers,
    now: i64,
    verify: &'a dyn Fn(SignatureQuestion<'_>) -> SignatureAnswer,
}

impl JwtAuthn {
    /// Judge a request at a time (seconds since 1970), with the caller's cryptography and the settings of the route.
    pub fn check(
        &self,
        headers: &Headers,
        route: Option<&PerRouteJwt>,
        now: i64,
        verify: &dyn Fn(SignatureQuestion<'_>) -> SignatureAnswer,
    ) -> JwtVerdict {
        let mut effects = Effects::default();
        let requirement = match route {
            Some(PerRouteJwt::Disabled) => None,
            Some(PerRouteJwt::Requirement(name)) => match self.requirement_map.get(name) {
                Some(requirement) => Some(requirement),
                None => return refuse(headers, 403, "Failed JWT authentication"),
            },
            None => {
                let rule =
                    self.rules.iter().find(|rule| rule.path.matches(headers, true) && rule.headers.iter().all(|m| m.matches(headers)));
                rule.and_then(|rule| rule.requires.as_ref())
            }
        };
        let bypass = self.bypass_cors_preflight && is_preflight(headers);
        if let Some(requirement) = requirement.filter(|_| !bypass) {
            // What the filter writes is nobody else's, whether a token comes or not (`ExtractorImpl::sanitizeHeaders`).
            for provider in self.providers.values() {
                effects.remove.extend(provider.claim_to_headers.iter().map(|(header, _)| header.clone()));
                effects.remove.extend(Some(provider.forward_payload_header.clone()).filter(|header| !header.is_empty()));
            }
            let check = Check { filter: self, headers, now, verify };
            if let Err(status) = check.requirement(requirement, &mut effects) {
                return refuse(headers, if status == AUDIENCE { 403 } else { 401 }, status);
            }
        }
        let Effects { metadata, set, remove, remove_parameters } = effects;
        JwtVerdict::Pass { metadata, set, remove, remove_parameters }
    }
}

fn refuse(headers: &Headers, status: u16, words: &str) -> JwtVerdict {
    let scheme = headers.get("x-forwarded-proto").or(headers.get(":scheme")).unwrap_or("http");
    let error = if words == MISSING { "" } else { ", error=\"invalid_token\"" };
    let www_authenticate = format!("Bearer realm=\"{scheme}://{}{}\"{error}", headers.authority(), headers.path());
    JwtVerdict::Refuse { status, body: words.to_owned(), www_authenticate }
}

impl<'a> Check<'a> {
    fn requirement(&self, requirement: &'a Requirement, effects: &mut Effects) -> Result<(), Status> {
        match requirement {
            Requirement::Provider(name) => self.provider(name, None, effects),
            Requirement::ProviderAndAudiences(name, audiences) => self.provider(name, Some(audiences), effects),
            Requirement::All(list) => list.iter().try_for_each(|inner| self.requirement(inner, effects)),
            Requirement::Any(list) => self.any(list, effects),
            // By themselves these two look at no provider's tokens.
            Requirement::AllowMissing | Requirement::AllowMissingOrFailed => Ok(()),
        }
    }

    /// The first that holds. `allow_missing` beside providers holds where none of them finds a token, or where the last
    /// token that is looked at is good for one of them. Otherwise a reason that says more than that there is no token, or
    /// none of a known issuer (`AnyVerifierImpl`).
    fn any(&self, list: &'a [Requirement], effects: &mut Effects) -> Result<(), Status> {
        let mut statuses = Vec::new();
        let mut used = Vec::new();
        for inner in list {
            if let Requirement::Provider(name) | Requirement::ProviderAndAudiences(name, _) = inner {
                used.extend(self.filter.providers.get(name));
            }
            if matches!(inner, Requirement::AllowMissing | Requirement::AllowMissingOrFailed) {
                continue;
            }
            match self.requirement(inner, effects) {
                Ok(()) => return Ok(()),
                Err(status) => statuses.push(status),
            }
        }
        if list.contains(&Requirement::AllowMissingOrFailed) {
            return Ok(());
        }
        if list.contains(&Requirement::AllowMissing) {
            let mut result = Ok(());
            for token in self.extract(used).iter().rev() {
                result = self.token(token, None, None, effects);
            }
            match result {
                Ok(()) => return Ok(()),
                Err(status) => statuses.push(status),
            }
        }
        let telling = |status: &&Status| ![MISSING, UNKNOWN_ISSUER].contains(status);
        Err(statuses.iter().rev().find(telling).or(statuses.last()).copied().unwrap_or(MISSING))
    }

    fn provider(&self, name: &str, audiences: Option<&[String]>, effects: &mut Effects) -> Result<(), Status> {
        let Some(provider) = self.filter.providers.get(name) else { return Err(UNKNOWN_ISSUER) };
        let tokens = self.extract([provider]);
        if tokens.is_empty() {
            return Err(MISSING);
        }
        // All of them must be good, the last one first.
        tokens.iter().rev().try_for_each(|token| self.token(token, Some(provider), audiences, effects))
    }

    fn extract(&self, providers: impl IntoIterator<Item = &'a Provider>) -> Vec<Extracted<'a>> {
        let mut found: Vec<Extracted<'a>> = Vec::new();
        let mut add = |text: String, place: Place, provider: &'a Provider| {
            let same = |other: &Extracted<'_>| match (&other.place, &place) {
                (Place::Header(a), Place::Header(b)) | (Place::Parameter(a), Place::Parameter(b)) => a == b && other.text == text,
                (Place::Cookie, Place::Cookie) => other.text == text,
                _ => false,
            };
            match found.iter_mut().find(|other| same(other)) {
                Some(other) => other.providers.push(provider),
                None => found.push(Extracted { text, place, providers: vec![provider] }),
            }
        };
        for provider in providers {
            for (name, prefix) in &provider.from_headers {
                let Some(value) = self.headers.joined(name) else { continue };
                let Some(at) = value.find(prefix.as_str()) else { continue };
                let rest = value.get(at + prefix.len()..).unwrap_or_default();
                let token = if prefix.is_empty() { rest.to_owned() } else { token_in(rest) };
                add(token, Place::Header(name.clone()), provider);
            }
            for name in &provider.from_params {
                if let Some(value) = query_parameter(self.headers.path(), name) {
                    add(value.to_owned(), Place::Parameter(name.clone()), provider);
                }
            }
            let cookies = self.headers.get("cookie").unwrap_or_default();
            for (name, value) in cookies.split(';').filter_map(|pair| pair.trim().split_once('=')) {
                if provider.from_cookies.iter().any(|wanted| wanted == name) {
                    add(value.to_owned(), Place::Cookie, provider);
                }
            }
        }
        found
    }

    fn token(
        &self,
        extracted: &Extracted<'a>,
        provider: Option<&'a Provider>,
        audiences: Option<&[String]>,
        effects: &mut Effects,
    ) -> Result<(), Status> {
        let token = Token::parse(&extracted.text)?;
        let issues = |provider: &&&Provider| provider.issuer.is_empty() || provider.issuer == token.iss;
        let mut candidates = extracted.providers.iter().filter(issues);
        let provider = match provider {
            Some(provider) => candidates.next().map(|_| provider),
            None => candidates.next().copied(),
        }
        .ok_or(UNKNOWN_ISSUER)?;
        token.in_time(self.now, i64::try_from(provider.clock_skew.as_secs()).unwrap_or(i64::MAX))?;
        let wanted = audiences.unwrap_or(&provider.audiences);
        if !wanted.is_empty() && !token.audiences.iter().any(|has| wanted.iter().any(|want| same_audience(has, want))) {
            return Err(AUDIENCE);
        }
        if provider.subject.as_ref().is_some_and(|subject| !subject.matches(&token.sub)) {
            return Err("Jwt verification fails");
        }
        let question =
            SignatureQuestion { kid: token.kid.as_deref(), alg: &token.alg, signed: &token.signed, signature: &token.signature, provider };
        match (self.verify)(question) {
            SignatureAnswer::Good => {}
            SignatureAnswer::Bad => return Err("Jwt verification fails"),
            SignatureAnswer::NoKey => return Err("Jwks doesn't have key to match kid or alg from Jwt"),
            SignatureAnswer::NoJwks => return Err("Jwks remote fetch is failed"),
        }
        effects.good(&token, provider, &extracted.place);
        Ok(())
    }
}

/// Audiences are compared without scheme and without a slash at the end (`CheckAudience`).
fn same_audience(has: &str, wanted: &str) -> bool {
    let bare = |text: &str| {
        let text = text.strip_prefix("https://").or(text.strip_prefix("http://")).unwrap_or(text);
        text.strip_suffix('/').unwrap_or(text).to_owned()
    };
    bare(has) == bare(wanted)
}

/// The token ends with the first character that cannot be part of one.
fn token_in(text: &str) -> String {
    let part = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.chars().skip_while(|c| !part(c)).take_while(part).collect()
}

impl Effects {
    fn good(&mut self, token: &Token, provider: &Provider, place: &Place) {
        if !provider.forward_payload_header.is_empty() {
            self.set.push((provider.forward_payload_header.clone(), token.payload_text.clone()));
        }
        for (header, claim) in &provider.claim_to_headers {
            if let Some(value) = token.claim_text(claim) {
                self.set.push((header.clone(), value));
            }
        }
        if !provider.forward {
            match place {
                Place::Header(name) => self.remove.push(name.clone()),
                Place::Parameter(name) => self.remove_parameters.push(name.clone()),
                Place::Cookie => {}
            }
        }
        if !provider.header_in_metadata.is_empty() {
            self.metadata.insert(provider.header_in_metadata.clone(), Value::Object(token.header.clone()));
        }
        if !provider.payload_in_metadata.is_empty() {
            let mut payload = token.payload.clone();
            for claim in &provider.space_delimited_claims {
                if let Some(Value::String(words)) = payload.get(claim) {
                    let list = words.split(' ').filter(|word| !word.is_empty()).map(Value::from).collect();
                    payload.insert(claim.clone(), Value::Array(list));
                }
            }
            self.metadata.insert(provider.payload_in_metadata.clone(), Value::Object(payload));
        }
    }
}
