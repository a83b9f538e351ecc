use std::net::{SocketAddr, TcpListener};

use super::*;
use crate::upstream::CircuitMode;

fn talk() -> (Line, Predecessor) {
    let (line, other) = Line::pair().unwrap();
    let predecessor = Predecessor {
        line: Line(other),
        pid: 1,
    };
    (line, predecessor)
}

const SOON: Duration = Duration::from_secs(20);

#[test]
fn many_sockets_arrive_and_still_listen() {
    let (line, predecessor) = talk();
    let sockets: Vec<(Address, OwnedFd)> = (0..MOST_SOCKETS + 3)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .map(|it| (it.local_addr().unwrap().into(), it.into()))
        .collect();
    let addresses: Vec<_> = sockets.iter().map(|(address, _)| address.clone()).collect();
    let inheritance = Inheritance {
        sockets,
        ..Inheritance::default()
    };
    line.hand_over(&inheritance, &TicketKeys::default())
        .unwrap();
    drop(inheritance);
    let received = predecessor.receive_inheritance(SOON, &TicketKeys::default());
    let received = received.unwrap();
    let arrived: Vec<_> = received
        .sockets
        .iter()
        .map(|(address, _)| address.clone())
        .collect();
    assert_eq!(arrived, addresses);
    let last = arrived[MOST_SOCKETS].to_string();
    assert!(std::net::TcpStream::connect(last).is_ok());
}

#[test]
fn a_socket_that_is_not_what_it_is_said_to_be_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let elsewhere = SocketAddr::from(([127, 0, 0, 1], address.port() ^ 1));
    for (claimed, socket) in [
        (elsewhere, OwnedFd::from(listener.try_clone().unwrap())),
        (
            address,
            std::net::TcpStream::connect(address).unwrap().into(),
        ),
    ] {
        let (line, predecessor) = talk();
        let keys = TicketKeys::default();
        let inheritance = Inheritance {
            sockets: vec![(claimed.into(), socket)],
            ..Inheritance::default()
        };
        line.hand_over(&inheritance, &keys).unwrap();
        assert!(predecessor.receive_inheritance(SOON, &keys).is_err());
    }
}

#[test]
fn what_was_changed_by_hand_arrives_however_much_it_is() {
    let (line, predecessor) = talk();
    let service = |name: &str, endpoints: usize, circuit| ByHand {
        service: name.into(),
        drained: (0..endpoints)
            .map(|it| format!("http://{}:{it}", "x".repeat(253)).into())
            .collect(),
        circuit,
    };
    let by_hand = vec![
        service("a", 3 * MOST_ENDPOINTS + 1, CircuitMode::Automatic),
        service("b", 0, CircuitMode::ForcedOpen),
    ];
    let inheritance = Inheritance {
        by_hand,
        ..Inheritance::default()
    };
    line.hand_over(&inheritance, &TicketKeys::default())
        .unwrap();
    let received = predecessor.receive_inheritance(SOON, &TicketKeys::default());
    let received = received.unwrap().by_hand;
    assert_eq!(received.len(), 5);
    let drained = received.iter().flat_map(|it| &it.drained);
    assert!(drained.eq(&inheritance.by_hand[0].drained));
    assert_eq!(received[4], inheritance.by_hand[1]);
}

#[test]
fn silence_nonsense_and_the_end_are_told_apart() {
    let (line, predecessor) = talk();
    let silent = line.receive(Some(Duration::from_millis(1))).unwrap_err();
    assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
    rustix::net::send(&predecessor.line.0, b"hello?", SendFlags::empty()).unwrap();
    assert!(line.receive(Some(SOON)).is_err());
    predecessor.fail(Step::Health, &"ä".repeat(LARGEST_MESSAGE));
    let Some((Message::Failed { step, reason }, _)) = line.receive(Some(SOON)).unwrap() else {
        panic!("not a failure");
    };
    assert_eq!(step, Step::Health);
    assert!(reason.ends_with('ä'));
    drop(predecessor);
    assert!(line.receive(Some(SOON)).unwrap().is_none());
}

#[test]
fn last_words_are_heard_though_their_speaker_did_not_listen() {
    let (line, predecessor) = talk();
    line.send(&Message::Accept, &[]).unwrap();
    predecessor.done(Step::Configuration).unwrap();
    drop(predecessor);
    let said = line.receive(Some(SOON)).unwrap();
    assert!(matches!(said, Some((Message::Done { .. }, _))), "{said:?}");
    assert!(line.receive(Some(SOON)).unwrap().is_none());
}
