//! A plan as a table: which node, what is done, why.

use gridgate_protocol::site_api::{Plan, PlanAction};

use super::table::{Align, Cell, Table};
use super::{Paint, Style};

/// What an action does to a site: makes, changes or ends something.
fn sign(action: PlanAction) -> (&'static str, Paint) {
    match action {
        PlanAction::Network | PlanAction::Image | PlanAction::CreateDisk | PlanAction::Start => {
            ("+", Paint::Good)
        }
        PlanAction::GrowDisk | PlanAction::Apply | PlanAction::Publish => ("~", Paint::Busy),
        PlanAction::Restart | PlanAction::Update => ("!", Paint::Warn),
        PlanAction::Remove => ("-", Paint::Bad),
    }
}

fn words(action: PlanAction) -> &'static str {
    match action {
        PlanAction::Network => "make the network",
        PlanAction::Image => "build the role image",
        PlanAction::CreateDisk => "make the disk",
        PlanAction::GrowDisk => "grow the disk",
        PlanAction::Start => "start the machine",
        PlanAction::Update => "update the packages",
        PlanAction::Restart => "restart the machine",
        PlanAction::Apply => "apply the new profile",
        PlanAction::Remove => "stop the machine, keep the disk",
        PlanAction::Publish => "change published ports",
    }
}

/// The plan, or `nothing to do`.
pub fn table(plan: &Plan, style: Style) -> String {
    if plan.steps.is_empty() {
        return "nothing to do\n".to_owned();
    }
    let mut table = Table::new(&[
        ("", Align::Left),
        ("NODE", Align::Left),
        ("PLANNED", Align::Left),
        ("BECAUSE", Align::Left),
    ]);
    for step in &plan.steps {
        let (sign, paint) = sign(step.action);
        let node = if step.node.is_empty() { "site" } else { &step.node };
        table.row([
            Cell::new(paint, sign),
            Cell::new(Paint::Strong, node),
            words(step.action).into(),
            Cell::new(Paint::Dim, &step.reason),
        ]);
    }
    table.render(style)
}
