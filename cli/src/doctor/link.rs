//! Whether a node's link for devices answers, by which certificate, what time it is there, and whether
//! it knows the device that asks.

use std::time::Duration;

use tidings_client::driver::{Caller, Greeted, LookError, Trust, look};
use tidings_node::clock;
use tidings_protocol::id::NodeId;
use tidings_protocol::limits::PROTOCOL_VERSION;
use tidings_protocol::refusal::RefusalCode;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::machine::Witness;
use super::report::Report;

/// A certificate that runs out sooner deserves a word.
const CERTIFICATE_SPARE_DAYS: u64 = 14;
const DAY_MS: u64 = 24 * 3600 * 1000;

/// Asks the link at `url` who it is.
pub(crate) async fn check(
    report: &mut Report,
    url: &str,
    node: NodeId,
    trust: &Trust,
    within: Duration,
    caller: Option<&Caller>,
) -> Option<Witness> {
    let now_ms = clock::now_ms();
    let answer = match look(url, trust, within, caller).await {
        Ok(answer) => answer,
        Err(error) => {
            let next = match &error {
                LookError::Url(_) => {
                    "correct the address: `client_url` in node.toml, or the invite"
                }
                LookError::Connect { .. } | LookError::Silent { .. } => {
                    "check that the node runs, and name, firewall, proxy and certificate on the way"
                }
                LookError::NoNode { .. } => {
                    "point the address, or the proxy behind it, at the node's `listen_clients`"
                }
            };
            report.failed("link", format!("{:#}", anyhow::Error::new(error)), next);
            return None;
        }
    };
    if answer.challenge.node != node {
        let other = answer.challenge.node.to_text();
        let next = "correct the address, or the proxy behind it";
        report.failed("link", format!("{url} is another node: {other}"), next);
    } else if answer.challenge.version == PROTOCOL_VERSION {
        report.ok("link", format!("{url} answers, and is the node"));
    } else {
        let version = answer.challenge.version;
        let next = "update the older of the two programs";
        report.failed("link", format!("the node speaks version {version}"), next);
    }
    if let (Some(caller), Some(greeted)) = (caller, answer.greeted) {
        listed(report, greeted, caller.list_version);
    }
    if let Some(certificate) = &answer.certificate {
        dates(report, certificate, now_ms);
    }
    let date = answer.date.and_then(|date| httpdate::parse_http_date(&date).ok())?;
    let since = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    let at_ms = u64::try_from(since.as_millis()).ok()?;
    Some(Witness { who: url.to_owned(), at_ms, is_now: true })
}

/// Whether the node serves this device.
fn listed(report: &mut Report, greeted: Greeted, own_version: u64) {
    match greeted {
        Greeted::Welcome(version) if version > own_version => report.warning(
            "device",
            "the node has a newer device list of this account",
            "run `tidings inbox`: it fetches the list, or says that this device is no longer in it",
        ),
        Greeted::Welcome(_) => report.ok("device", "the node lists this device"),
        Greeted::Refused(RefusalCode::NotAuthorised) => report.failed(
            "device",
            "the node does not list this device",
            "run `tidings inbox`: it brings the node's list up to date, or says what else to do",
        ),
        Greeted::Refused(code) => {
            report.warning("device", code.advice(), "look again in a few minutes");
        }
    }
}

/// For how long a certificate is good.
pub(crate) fn dates(report: &mut Report, der: &[u8], now_ms: u64) {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        let next = "get a certificate in X.509, as PEM";
        return report.failed("certificate", "it cannot be read", next);
    };
    let ms = |time: x509_parser::time::ASN1Time| {
        u64::try_from(time.timestamp()).unwrap_or(0).saturating_mul(1000)
    };
    let validity = certificate.validity();
    let (begins, ends) = (ms(validity.not_before), ms(validity.not_after));
    let renew = "renew it, and restart the node: it is read at the start";
    if begins > now_ms {
        let next = "check the clock of this machine, or wait";
        report.failed(
            "certificate",
            format!("it is not good before {}", validity.not_before),
            next,
        );
    } else if ends <= now_ms {
        report.failed("certificate", format!("it ran out on {}", validity.not_after), renew);
    } else {
        let days = (ends - now_ms) / DAY_MS;
        let found = format!("it is good for {days} more days");
        if days < CERTIFICATE_SPARE_DAYS {
            report.warning("certificate", found, renew);
        } else {
            report.ok("certificate", found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::dates;
    use crate::doctor::report::{Outcome, Report};

    #[test]
    fn a_certificate_is_judged_by_its_dates() {
        let mut params = rcgen::CertificateParams::new(vec!["acme.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2030, 1, 1);
        params.not_after = rcgen::date_time_ymd(2031, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let outcome = |now_ms| {
            let mut report = Report::default();
            dates(&mut report, &der, now_ms);
            report.findings[0].outcome
        };
        // The first of January 2030.
        let begins = 1_893_456_000_000;
        let day = 24 * 3600 * 1000;
        assert_eq!(outcome(begins - 1), Outcome::Failed);
        assert_eq!(outcome(begins), Outcome::Ok);
        assert_eq!(outcome(begins + 355 * day), Outcome::Warning);
        assert_eq!(outcome(begins + 365 * day), Outcome::Failed);
    }
}
