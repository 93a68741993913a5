//! Where a report's links to scenarios lead: from the folder of the reports to where the scenarios are.

use std::path::{Component, Path, PathBuf};

use gateproof_core::report::RunRecord;

/// A scenario's folder as it is on disk, until a report is written and it is known from where its links lead.
pub(super) fn on_disk(folder: &Path) -> String {
    let there = folder.canonicalize().or_else(|_| std::path::absolute(folder)).unwrap_or_else(|_| folder.to_owned());
    there.display().to_string()
}

/// Turns the scenarios' folders into paths from the folder above `reports`, as links of a report have them.
pub(super) fn from_reports(record: &mut RunRecord, reports: &Path) {
    let reports = PathBuf::from(on_disk(reports));
    let above = reports.parent().unwrap_or(&reports);
    for scenario in &mut record.scenarios {
        let folder = Path::new(&scenario.folder);
        if folder.is_absolute() {
            scenario.folder = relative(folder, above);
        }
    }
}

/// A way from one absolute folder to another, with `/` between its parts.
fn relative(to: &Path, from: &Path) -> String {
    let (to, from): (Vec<Component<'_>>, Vec<Component<'_>>) = (to.components().collect(), from.components().collect());
    let same = to.iter().zip(&from).take_while(|(a, b)| a == b).count();
    let up = from.iter().skip(same).map(|_| "..".to_owned());
    let down = to.iter().skip(same).map(|part| part.as_os_str().to_string_lossy().into_owned());
    up.chain(down).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_from_the_reports_to_wherever_the_scenarios_are() {
        let way = |to: &str, from: &str| relative(Path::new(to), Path::new(from));
        assert_eq!(way("/repo/scenarios/10-ingress", "/repo"), "scenarios/10-ingress");
        assert_eq!(way("/shop/mine/30-invoices", "/shop"), "mine/30-invoices");
        assert_eq!(way("/shop/mine/30-invoices", "/var/out"), "../../shop/mine/30-invoices");
    }
}
