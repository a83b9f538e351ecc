//! What `tollgate top` shows: the gateway, its traffic, its routes, its services.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table};

use super::Moment;
use super::format::{NOTHING, rate, share, time};
use crate::admin::{EndpointReport, Figures, Phase, RouteTraffic, ServiceReport};

/// Lines of the curve of requests.
const CURVE: u16 = 4;
/// Shares of failures from which a number is a warning, and an alarm.
const WARNING: f64 = 0.01;
const ALARM: f64 = 0.05;

/// By what routes are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Requests,
    Errors,
    Time,
    Name,
}

/// What is shown.
#[derive(Debug)]
pub(super) struct View {
    moment: Moment,
    /// Why there is nothing newer.
    trouble: Option<String>,
    pub(super) order: Order,
    /// Rows of the routes that are out of sight.
    skipped: usize,
}

impl View {
    pub(super) fn new(moment: Moment) -> Self {
        Self {
            moment,
            trouble: None,
            order: Order::Requests,
            skipped: 0,
        }
    }

    /// What is newer; or why there is nothing.
    pub(super) fn take(&mut self, moment: Result<Moment, String>) {
        match moment {
            Ok(moment) => {
                self.moment = moment;
                self.trouble = None;
            }
            Err(reason) => self.trouble = Some(reason),
        }
    }

    /// Has other routes be seen.
    pub(super) fn scroll(&mut self, rows: isize) {
        let last = self.moment.traffic.routes.len().saturating_sub(1);
        self.skipped = self.skipped.saturating_add_signed(rows).min(last);
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let services: usize = self.moment.services.iter().map(rows_of).sum();
        let services = u16::try_from(services).unwrap_or(u16::MAX);
        let [head, curve, routes, below, keys] = Layout::vertical([
            Constraint::Length(3),
            Constraint::Length(CURVE + 1),
            Constraint::Min(5),
            Constraint::Max(services.saturating_add(2)),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        self.draw_head(head, frame);
        self.draw_curve(curve, frame);
        self.draw_routes(routes, frame);
        self.draw_services(below, frame);
        self.draw_keys(keys, frame);
    }

    fn draw_head(&self, area: Rect, frame: &mut Frame<'_>) {
        let status = &self.moment.status;
        let phase = match status.phase {
            Phase::Starting => "starting".yellow(),
            Phase::Serving => "serving".green(),
            Phase::Draining => "ending".yellow(),
        };
        let mut first = vec![
            format!("Tollgate {}  ", status.version).bold(),
            phase,
            format!(
                "  process {}, configuration {} since {}",
                status.pid, status.generation, status.loaded
            )
            .into(),
        ];
        if status.overload > 0 {
            first.push("  overload: requests are shed".red());
        }
        if let Some(reason) = &self.trouble {
            first = vec![Span::from(reason.as_str()).red()];
        }
        let traffic = &self.moment.traffic;
        let (all, seconds) = (&traffic.recent, traffic.window_s);
        let failed = style_of(all.errors, all.requests);
        let in_flight = traffic.samples.last().map_or(0, |it| it.in_flight);
        let second = vec![
            format!("{}/s", rate(all.requests, seconds)).bold(),
            "  failed ".into(),
            Span::styled(share(all.errors, all.requests), failed),
            format!(
                "  4xx {}  p50 {}  p95 {}  p99 {}  under way {in_flight}  (last {seconds} s)",
                share(all.client_errors, all.requests),
                time(all.p50_us),
                time(all.p95_us),
                time(all.p99_us),
            )
            .into(),
        ];
        let lines = vec![Line::from(first), Line::from(second)];
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn draw_curve(&self, area: Rect, frame: &mut Frame<'_>) {
        let traffic = &self.moment.traffic;
        let newest = traffic.samples.iter().rev();
        let mut counts: Vec<u64> = newest
            .take(area.width.into())
            .map(|it| it.figures.requests)
            .collect();
        counts.reverse();
        let most = counts.iter().max().copied().unwrap_or_default();
        let title = format!("requests, at most {}/s", rate(most, traffic.step_s));
        let curve = Sparkline::default()
            .block(Block::new().borders(Borders::TOP).title(title))
            .data(counts)
            .style(Style::new().fg(Color::Cyan));
        frame.render_widget(curve, area);
    }

    fn draw_routes(&self, area: Rect, frame: &mut Frame<'_>) {
        let seconds = self.moment.traffic.window_s;
        let rows = self.sorted().into_iter().skip(self.skipped).map(|route| {
            let mut cells = vec![
                Cell::from(route.route.as_str()),
                Cell::from(route.service.as_str()),
            ];
            cells.extend(of_figures(&route.figures, seconds));
            Row::new(cells)
        });
        let table = table(
            rows,
            ["route", "of", "req/s", "failed", "p50", "p95", "p99"],
            [
                Constraint::Fill(3),
                Constraint::Fill(2),
                Constraint::Length(7),
                Constraint::Length(7),
                Constraint::Length(8),
                Constraint::Length(8),
                Constraint::Length(8),
            ],
            2,
        );
        let by = match self.order {
            Order::Requests => "requests",
            Order::Errors => "failures",
            Order::Time => "time (p95)",
            Order::Name => "name",
        };
        let title = format!("routes by {by}");
        frame.render_widget(
            table.block(Block::new().borders(Borders::TOP).title(title)),
            area,
        );
    }

    fn sorted(&self) -> Vec<&RouteTraffic> {
        let mut routes: Vec<_> = self.moment.traffic.routes.iter().collect();
        routes.sort_by(|a, b| {
            let names = (&a.route, &a.service).cmp(&(&b.route, &b.service));
            let (a, b) = (&a.figures, &b.figures);
            let most_first = match self.order {
                Order::Requests => b.requests.cmp(&a.requests),
                Order::Errors => b.errors.cmp(&a.errors),
                Order::Time => b.p95_us.cmp(&a.p95_us),
                Order::Name => std::cmp::Ordering::Equal,
            };
            most_first.then(names)
        });
        routes
    }

    fn draw_services(&self, area: Rect, frame: &mut Frame<'_>) {
        let rows = self.moment.services.iter().flat_map(|service| {
            let mut name = service.service.as_str();
            let circuit = circuit(service);
            let rows = service.endpoints.iter().map(move |endpoint| {
                let of_service = std::mem::take(&mut name);
                let circuit = match of_service {
                    "" => Cell::default(),
                    _ => circuit.clone(),
                };
                Row::new([
                    Cell::from(of_service),
                    Cell::from(endpoint.endpoint.as_str()),
                    circuit,
                    state(endpoint),
                    right(endpoint.in_flight.to_string()),
                    right(time(endpoint.latency_us)),
                ])
            });
            let none = Row::new([
                Cell::from(service.service.as_str()),
                Cell::from(NOTHING),
                self::circuit(service),
            ]);
            let none = service.endpoints.is_empty().then_some(none);
            rows.chain(none).collect::<Vec<_>>()
        });
        let table = table(
            rows,
            [
                "service",
                "endpoint",
                "circuit",
                "state",
                "in flight",
                "latency",
            ],
            [
                Constraint::Fill(2),
                Constraint::Fill(3),
                Constraint::Length(16),
                Constraint::Length(10),
                Constraint::Length(9),
                Constraint::Length(8),
            ],
            4,
        );
        frame.render_widget(table.block(Block::new().borders(Borders::TOP)), area);
    }

    fn draw_keys(&self, area: Rect, frame: &mut Frame<'_>) {
        let keys = "sort by r requests, e failures, t time, n name   ↑↓ scroll   q end";
        frame.render_widget(Paragraph::new(keys.dim()), area);
    }
}

/// A table whose columns from `numbers` on stand at the right.
fn table<'t, const COLUMNS: usize>(
    rows: impl Iterator<Item = Row<'t>>,
    head: [&'static str; COLUMNS],
    widths: [Constraint; COLUMNS],
    numbers: usize,
) -> Table<'t> {
    let head = head.into_iter().enumerate().map(|(column, name)| {
        let line = Line::from(name);
        let is_number = column >= numbers;
        Cell::from(if is_number {
            line.right_aligned()
        } else {
            line
        })
    });
    let head = Row::new(head).style(Style::new().add_modifier(Modifier::DIM));
    Table::new(rows, widths).header(head)
}

fn rows_of(service: &ServiceReport) -> usize {
    service.endpoints.len().max(1)
}

fn right<'c>(text: String) -> Cell<'c> {
    Cell::from(Line::from(text).alignment(Alignment::Right))
}

fn of_figures<'c>(figures: &Figures, seconds: u64) -> [Cell<'c>; 5] {
    let failed = share(figures.errors, figures.requests);
    [
        right(rate(figures.requests, seconds)),
        right(failed).style(style_of(figures.errors, figures.requests)),
        right(time(figures.p50_us)),
        right(time(figures.p95_us)),
        right(time(figures.p99_us)),
    ]
}

fn style_of(errors: u64, requests: u64) -> Style {
    match errors as f64 / requests.max(1) as f64 {
        share if share >= ALARM => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        share if share >= WARNING => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    }
}

fn circuit<'c>(service: &ServiceReport) -> Cell<'c> {
    let word = service.circuit.replace('_', " ");
    let text = match &*service.circuit_is {
        "automatic" => word,
        _ => format!("{word} by hand"),
    };
    let style = match &*service.circuit {
        "closed" => Style::new(),
        "half_open" => Style::new().fg(Color::Yellow),
        _ => Style::new().fg(Color::Red),
    };
    Cell::from(text).style(style)
}

fn state<'c>(endpoint: &EndpointReport) -> Cell<'c> {
    let style = match &*endpoint.state {
        "healthy" => Style::new().fg(Color::Green),
        "drained" => Style::new().fg(Color::Yellow),
        _ => Style::new().fg(Color::Red),
    };
    Cell::from(endpoint.state.clone()).style(style)
}

#[cfg(test)]
pub(super) mod tests;
