//! A name server whose answers can be changed.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// A name server on the loopback; ends when dropped.
pub struct NameServer {
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    answering: JoinHandle<()>,
}

#[derive(Default)]
struct Zone {
    records: HashMap<String, Vec<RData>>,
    ttl: u32,
    is_silent: bool,
    code: Option<ResponseCode>,
    queries: usize,
}

impl NameServer {
    /// Knows no name yet; answers live for a second.
    pub async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Zone {
            ttl: 1,
            ..Zone::default()
        }));
        let known = zone.clone();
        let answering = tokio::spawn(async move {
            let mut query = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                let answer = known.lock().unwrap().answer(&query[..length]);
                if let Some(answer) = answer {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Self {
            address,
            zone,
            answering,
        }
    }

    /// The addresses of a name, from now on.
    pub fn set(&self, name: &str, addresses: &[&str]) {
        let record = |address: &&str| match address.parse().unwrap() {
            IpAddr::V4(address) => RData::A(address.into()),
            IpAddr::V6(address) => RData::AAAA(address.into()),
        };
        let records = addresses.iter().map(record).collect();
        self.zone
            .lock()
            .unwrap()
            .records
            .insert(name.to_owned(), records);
    }

    /// The places of a service, from now on: priority, weight, port and host of each.
    pub fn set_places(&self, name: &str, places: &[(u16, u16, u16, &str)]) {
        let record = |(priority, weight, port, host): &(u16, u16, u16, &str)| {
            RData::SRV(SRV::new(
                *priority,
                *weight,
                *port,
                Name::from_ascii(host).unwrap(),
            ))
        };
        let records = places.iter().map(record).collect();
        self.zone
            .lock()
            .unwrap()
            .records
            .insert(name.to_owned(), records);
    }

    /// For how many seconds answers are good.
    pub fn live_for(&self, seconds: u32) {
        self.zone.lock().unwrap().ttl = seconds;
    }

    /// Answers nothing, or again.
    pub fn be_silent(&self, is_silent: bool) {
        self.zone.lock().unwrap().is_silent = is_silent;
    }

    /// Answers all with this error, or none any more.
    pub fn fail(&self, code: Option<ResponseCode>) {
        self.zone.lock().unwrap().code = code;
    }

    /// Questions so far.
    pub fn queries(&self) -> usize {
        self.zone.lock().unwrap().queries
    }
}

impl Zone {
    fn answer(&mut self, query: &[u8]) -> Option<Vec<u8>> {
        self.queries += 1;
        if self.is_silent {
            return None;
        }
        let query = Message::from_vec(query).ok()?;
        let question = query.queries.first()?.clone();
        let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.recursion_desired = true;
        answer.metadata.recursion_available = true;
        let name = question.name().to_ascii();
        let records = self.records.get(name.trim_end_matches('.'));
        answer.metadata.response_code = match (self.code, records) {
            (Some(code), _) => code,
            (None, None) => ResponseCode::NXDomain,
            (None, Some(_)) => ResponseCode::NoError,
        };
        if self.code.is_none() {
            let kind = |record: &&RData| match question.query_type() {
                RecordType::A => matches!(record, RData::A(_)),
                RecordType::AAAA => matches!(record, RData::AAAA(_)),
                RecordType::SRV => matches!(record, RData::SRV(_)),
                _ => false,
            };
            for record in records.into_iter().flatten().filter(kind) {
                let name = question.name().clone();
                answer.add_answer(Record::from_rdata(name, self.ttl, record.clone()));
            }
        }
        answer.add_query(question);
        answer.to_vec().ok()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.answering.abort();
    }
}
