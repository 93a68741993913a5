//! Envoy's words for a TLS handshake that failed: `SslSocket::drainErrorQueue` over BoringSSL's error queue.

use std::io;

use rustls::{AlertDescription, Error};

/// BoringSSL's library number of SSL errors, in its place.
const SSL: u32 = 16 << 24;
/// And of system calls; `ECONNRESET` is 104.
const SYSTEM_CONNECTION_RESET: u32 = (2 << 24) | 104;

/// The transport failure reason, or nothing where Envoy gives none: the other side ended the connection.
pub(in super::super) fn of_io(error: &io::Error) -> String {
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return of(tls);
    }
    match error.kind() {
        io::ErrorKind::ConnectionReset => wrapped(SYSTEM_CONNECTION_RESET, "system library", "Connection reset by peer"),
        _ => String::new(),
    }
}

fn of(error: &Error) -> String {
    let (code, words) = match error {
        Error::InvalidCertificate(_) => (125, "CERTIFICATE_VERIFY_FAILED"),
        Error::NoCertificatesPresented => (192, "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
        Error::InvalidMessage(_) => (247, "WRONG_VERSION_NUMBER"),
        Error::PeerIncompatible(_) => (240, "UNSUPPORTED_PROTOCOL"),
        Error::NoApplicationProtocol => (307, "NO_APPLICATION_PROTOCOL"),
        Error::AlertReceived(alert) => match alert_words(*alert) {
            Some(words) => (1000 + u32::from(u8::from(*alert)), words),
            None => return String::new(),
        },
        _ => (226, "UNEXPECTED_MESSAGE"),
    };
    wrapped(SSL + code, "SSL routines", words)
}

fn wrapped(code: u32, library: &str, words: &str) -> String {
    format!("TLS_error:|{code}:{library}:OPENSSL_internal:{words}:TLS_error_end")
}

fn alert_words(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::UnexpectedMessage => "SSLV3_ALERT_UNEXPECTED_MESSAGE",
        AlertDescription::BadRecordMac => "SSLV3_ALERT_BAD_RECORD_MAC",
        AlertDescription::HandshakeFailure => "SSLV3_ALERT_HANDSHAKE_FAILURE",
        AlertDescription::BadCertificate => "SSLV3_ALERT_BAD_CERTIFICATE",
        AlertDescription::UnsupportedCertificate => "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        AlertDescription::CertificateRevoked => "SSLV3_ALERT_CERTIFICATE_REVOKED",
        AlertDescription::CertificateExpired => "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        AlertDescription::CertificateUnknown => "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        AlertDescription::IllegalParameter => "SSLV3_ALERT_ILLEGAL_PARAMETER",
        AlertDescription::UnknownCA => "TLSV1_ALERT_UNKNOWN_CA",
        AlertDescription::AccessDenied => "TLSV1_ALERT_ACCESS_DENIED",
        AlertDescription::DecodeError => "TLSV1_ALERT_DECODE_ERROR",
        AlertDescription::DecryptError => "TLSV1_ALERT_DECRYPT_ERROR",
        AlertDescription::ProtocolVersion => "TLSV1_ALERT_PROTOCOL_VERSION",
        AlertDescription::InsufficientSecurity => "TLSV1_ALERT_INSUFFICIENT_SECURITY",
        AlertDescription::InternalError => "TLSV1_ALERT_INTERNAL_ERROR",
        AlertDescription::UnrecognisedName => "TLSV1_ALERT_UNRECOGNIZED_NAME",
        AlertDescription::CertificateRequired => "TLSV1_ALERT_CERTIFICATE_REQUIRED",
        AlertDescription::NoApplicationProtocol => "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_envoy() {
        let verify = Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let verify = io::Error::new(io::ErrorKind::InvalidData, verify);
        assert_eq!(of_io(&verify), "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end");
        let alert = Error::AlertReceived(AlertDescription::CertificateUnknown);
        assert_eq!(of(&alert), "TLS_error:|268436502:SSL routines:OPENSSL_internal:SSLV3_ALERT_CERTIFICATE_UNKNOWN:TLS_error_end");
        let plain = Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert_eq!(of(&plain), "TLS_error:|268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER:TLS_error_end");
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(of_io(&reset), "TLS_error:|33554536:system library:OPENSSL_internal:Connection reset by peer:TLS_error_end");
        assert_eq!(of_io(&io::Error::from(io::ErrorKind::UnexpectedEof)), "");
    }
}
