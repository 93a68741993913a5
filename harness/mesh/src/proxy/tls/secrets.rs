//! Secrets by their SDS names, read once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use gateproof_mesh_config::Secret;
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::super::{read, write};
use super::provider;

/// CAs that are trusted.
#[derive(Debug)]
pub(in super::super) struct Roots {
    pub(super) store: Arc<RootCertStore>,
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

impl Default for Roots {
    fn default() -> Self {
        Self { store: Arc::new(RootCertStore::empty()), certificates: Vec::new() }
    }
}

/// One secret, as it was sent and as it is used.
pub(in super::super) struct Known {
    pub(in super::super) secret: Arc<Secret>,
    pub(in super::super) since: Timestamp,
    key: Option<Arc<CertifiedKey>>,
    roots: Option<Arc<Roots>>,
}

/// All that the proxy has been given.
#[derive(Default)]
pub(in super::super) struct Secrets {
    known: RwLock<BTreeMap<String, Arc<Known>>>,
    generation: AtomicU64,
}

/// A chain and its key.
///
/// # Errors
/// Envoy's words for what it cannot load (`ContextImpl`, `tls_certificate_config_impl.cc`).
pub(in super::super) fn key_of(chain: &str, key: &str) -> Result<CertifiedKey, String> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().unwrap_or_default();
    if chain.is_empty() {
        return Err("Failed to load certificate chain from <inline>".to_owned());
    }
    let unreadable = || "Failed to load private key from <inline>".to_owned();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| unreadable())?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => {
            format!("{}, Cause: error:0b000074:X.509 certificate routines:OPENSSL_internal:KEY_VALUES_MISMATCH", unreadable())
        }
        _ => unreadable(),
    })
}

/// CAs.
///
/// # Errors
/// Envoy's words.
pub(in super::super) fn roots_of(pem: &str) -> Result<Roots, String> {
    let unreadable = || "Failed to load trusted CA certificates from <inline>".to_owned();
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|_| unreadable())?;
    if certificates.is_empty() {
        return Err(unreadable());
    }
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates.iter().cloned());
    Ok(Roots { store: Arc::new(store), certificates })
}

impl Secrets {
    /// Takes a secret, or takes it away. Whether anything changed.
    ///
    /// # Errors
    /// What Envoy says of one that it cannot use; the one before stays.
    pub(in super::super) fn set(&self, name: &str, secret: Option<&Arc<Secret>>) -> Result<bool, String> {
        let before = read(&self.known).get(name).cloned();
        match (before, secret) {
            (None, None) => return Ok(false),
            (Some(known), Some(secret)) if Arc::ptr_eq(&known.secret, secret) || *known.secret == **secret => return Ok(false),
            (_, None) => {
                write(&self.known).remove(name);
            }
            (_, Some(secret)) => {
                let key = if secret.chain_pem.is_empty() && secret.key_pem.is_empty() {
                    None
                } else {
                    Some(Arc::new(key_of(&secret.chain_pem, &secret.key_pem)?))
                };
                let roots = if secret.ca_pem.is_empty() { None } else { Some(Arc::new(roots_of(&secret.ca_pem)?)) };
                let known = Known { secret: secret.clone(), since: Timestamp::now(), key, roots };
                write(&self.known).insert(name.to_owned(), Arc::new(known));
            }
        }
        self.generation.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    /// Grows with every change.
    pub(in super::super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    pub(in super::super) fn get(&self, name: &str) -> Option<Arc<Known>> {
        read(&self.known).get(name).cloned()
    }

    pub(in super::super) fn has(&self, name: &str) -> bool {
        read(&self.known).contains_key(name) || built_in(name)
    }

    pub(super) fn key(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.get(name)?.key.clone()
    }

    pub(super) fn roots(&self, name: &str) -> Option<Arc<Roots>> {
        match self.get(name) {
            Some(known) => known.roots.clone(),
            None => built_in(name).then(Arc::default),
        }
    }
}

/// The CAs of a file or of the system, which the agent always has an answer for
/// (`security/pkg/nodeagent/cache/secretcache.go`); in a simulated world they signed nothing.
fn built_in(name: &str) -> bool {
    name == "system" || name == "file-root:system" || name.starts_with("file-root:")
}
