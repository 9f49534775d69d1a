use std::future::poll_fn;
use std::net::Ipv4Addr;

use tokio::net::TcpListener;

use super::*;
use crate::upstream::connect::connect;

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_deadline_that_passed_in_the_pool_is_none_of_the_next_request() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
    let address = listener.local_addr().expect("address");
    let (client, server) = tokio::join!(connect(address, None, LONG), listener.accept());
    let _server = server.expect("accept");
    let mut connection = UpstreamConnection::new(client.expect("connect"));
    tokio::time::pause();
    connection.begin();
    connection.expect_bytes(Duration::from_millis(400));
    tokio::time::advance(Duration::from_secs(1)).await;

    // Its body is still being sent: an answer may come, but none is waited for yet.
    connection.begin();
    assert!(poll_fn(|cx| Poll::Ready(connection.poll_head(false, 1000, cx)))
        .await
        .is_pending());
    connection.expect_bytes(Duration::from_millis(400));
    tokio::time::advance(Duration::from_secs(1)).await;
    let outcome = poll_fn(|cx| Poll::Ready(connection.poll_head(false, 1000, cx))).await;
    assert!(matches!(outcome, Poll::Ready(Err(TalkFault::ReadTimeout))));
}
