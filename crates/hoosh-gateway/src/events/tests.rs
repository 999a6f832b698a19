use futures_util::{FutureExt, StreamExt};

use super::*;

fn queued(position: usize) -> Happened {
    let endpoint = Endpoint { provider: "p".into(), model: "m".into() };
    Happened::Queued { id: RequestId::new(), endpoint, position }
}

fn position(event: &Event) -> usize {
    match event.happened {
        Happened::Queued { position, .. } => position,
        ref other => panic!("{other:?}"),
    }
}

/// What a listener has without waiting. Outside of a runtime: tokio lets no task take more than 128 at once.
fn heard(listener: &mut Listener) -> Vec<Arc<Event>> {
    std::iter::from_fn(|| listener.next().now_or_never().flatten()).collect()
}

#[test]
fn nothing_is_made_while_nobody_listens() {
    let bus = EventBus::new();
    bus.tell(|| unreachable!("nobody listens"));
    let mut listener = bus.listen();
    assert_eq!((bus.listeners(), heard(&mut listener).len()), (1, 0));
    bus.tell(|| queued(7));
    let events = heard(&mut listener);
    assert_eq!((events[0].sequence, position(&events[0])), (1, 7));
    assert!(events[0].unix_ms > 1_700_000_000_000);
    drop(listener);
    bus.tell(|| unreachable!("nobody listens any more"));
    assert_eq!(bus.listeners(), 0);
}

#[test]
fn all_hear_the_same_in_the_same_order_whoever_tells() {
    let bus = EventBus::new();
    let mut listeners = [bus.listen(), bus.listen()];
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let bus = &bus;
            scope.spawn(move || (0..100).for_each(|at| bus.tell(|| queued(thread * 100 + at))));
        }
    });
    let [one, other] = listeners.each_mut().map(heard);
    assert_eq!(one, other);
    assert!(one.iter().map(|event| event.sequence).eq(1..=400));
    for thread in 0..4 {
        let own = one.iter().map(|event| position(event)).filter(|at| at / 100 == thread);
        assert!(own.eq(thread * 100..thread * 100 + 100), "a thread's own keep their order");
    }
}

#[test]
fn a_slow_listener_is_told_how_many_it_missed_and_nobody_else_is() {
    let bus = EventBus::new();
    bus.tell(|| unreachable!());
    let (mut slow, mut quick) = (bus.listen(), bus.listen());
    let (kept, told) = (limits::EVENTS_KEPT_MAX, limits::EVENTS_KEPT_MAX + 10);
    for at in 0..told {
        bus.tell(|| queued(at));
        assert_eq!(position(&heard(&mut quick)[0]), at);
    }
    let events = heard(&mut slow);
    assert_eq!((&events[0].happened, events[0].sequence), (&Happened::Lagged { missed: 10 }, 10));
    assert_eq!((events.len(), events[1].sequence, position(&events[1])), (kept + 1, 11, 10));
}

#[tokio::test]
async fn a_listener_waits_and_ends_with_the_bus() {
    let bus = EventBus::new();
    let mut listener = bus.listen();
    assert!(listener.next().now_or_never().is_none());
    bus.tell(|| queued(0));
    assert!(listener.next().await.is_some());
    drop(bus);
    assert!(listener.next().await.is_none());
}

#[test]
fn a_change_of_health_is_told_once_and_by_its_reason() {
    let (bus, health) = (EventBus::new(), Health::default());
    bus.watch(&health);
    bus.watch(&health);
    let mut listener = bus.listen();
    let rest = Duration::from_secs(5);
    let mut check = |state, model: Option<&str>, kind| {
        let change = HealthChange { provider: "p".into(), model: model.map(Into::into), state };
        bus.0.health_changed(&change);
        let events = heard(&mut listener);
        assert_eq!((events.len(), events[0].happened.kind()), (1, kind));
    };
    let resting = |rest, why| HealthState::Resting { rest, why };
    check(resting(rest, RestReason::Failing), Some("m"), EventKind::BreakerOpened);
    check(resting(Duration::ZERO, RestReason::Failing), Some("m"), EventKind::HealthChanged);
    check(resting(rest, RestReason::RateLimited), Some("m"), EventKind::RateLimited);
    check(HealthState::Probing, Some("m"), EventKind::HealthChanged);
    check(HealthState::Offline, None, EventKind::HealthChanged);
}

#[test]
fn names_are_read_as_they_are_written() {
    for kind in EventKind::ALL {
        assert_eq!(EventKind::parse(kind.as_str()), Some(kind));
    }
    assert_eq!(EventKind::parse("Completed"), None);
}
