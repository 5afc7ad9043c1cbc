//! Published ports: from the host's loopback to a listener inside a network. Needs root.

mod support;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use gridgate_net::{NetError, PublishedPort, ensure, in_namespace, publish};
use support::{Network, SERVER};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ANY_PORT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// A listener inside, and a port on the host that leads to it.
async fn published() -> (Network, TcpListener, PublishedPort) {
    let network = Network::of(0);
    ensure(&network.0).await.unwrap();
    let inside = || std::net::TcpListener::bind((SERVER, 0)).unwrap();
    let listener = in_namespace(&network.path(), inside).unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let SocketAddr::V4(target) = listener.local_addr().unwrap() else { unreachable!() };
    let port = publish(ANY_PORT, network.path(), target).await.unwrap();
    (network, listener, port)
}

#[tokio::test]
async fn each_direction_ends_on_its_own() {
    let (_network, listener, port) = published().await;
    let mut client = TcpStream::connect(port.listen()).await.unwrap();
    let (mut node, from) = listener.accept().await.unwrap();
    assert_eq!(from.ip(), SERVER);

    let question = vec![7; 3_000_000];
    let (sent, received) = tokio::join!(
        async {
            client.write_all(&question).await?;
            client.shutdown().await
        },
        async {
            let mut bytes = Vec::new();
            node.read_to_end(&mut bytes).await.map(|_| bytes)
        }
    );
    sent.unwrap();
    assert!(received.unwrap() == question);
    // The client has said all; the node still answers.
    node.write_all(b"answer").await.unwrap();
    drop(node);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");
}

#[tokio::test]
async fn many_connections_at_once_do_not_mix() {
    let (_network, listener, port) = published().await;
    let echo = tokio::spawn(async move {
        loop {
            let (mut node, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = node.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..50_u8 {
        let address = port.listen();
        clients.spawn(async move {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(&[number; 10_000]).await.unwrap();
            client.shutdown().await.unwrap();
            let mut back = Vec::new();
            client.read_to_end(&mut back).await.unwrap();
            assert!(back == [number; 10_000]);
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    echo.abort();
}

#[tokio::test]
async fn dropping_ends_listener_and_connections() {
    let (_network, listener, port) = published().await;
    let address = port.listen();
    let mut client = TcpStream::connect(address).await.unwrap();
    let (mut node, _) = listener.accept().await.unwrap();
    client.write_all(b"x").await.unwrap();
    assert_eq!(node.read_u8().await.unwrap(), b'x');
    drop(port);
    assert!(matches!(client.read(&mut [0]).await, Ok(0) | Err(_)));
    assert!(matches!(node.read(&mut [0]).await, Ok(0) | Err(_)));
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn an_address_in_use_is_said_to_be() {
    let (network, _listener, port) = published().await;
    let target = SocketAddrV4::new(SERVER, 1);
    let error = publish(port.listen(), network.path(), target).await.unwrap_err();
    let NetError::AddressInUse { listen } = error else { panic!("{error}") };
    assert_eq!(listen, port.listen());
}

#[tokio::test]
async fn a_node_that_refuses_resets_its_clients_and_later_ones_get_through() {
    let (network, listener, port) = published().await;
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut client = TcpStream::connect(port.listen()).await.unwrap();
    let error = client.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    let listener = in_namespace(&network.path(), || std::net::TcpListener::bind(address));
    let listener = listener.unwrap().unwrap();
    let _client = TcpStream::connect(port.listen()).await.unwrap();
    listener.set_nonblocking(true).unwrap();
    TcpListener::from_std(listener).unwrap().accept().await.unwrap();
}

#[tokio::test]
async fn a_network_that_is_gone_resets_too() {
    let (network, _listener, port) = published().await;
    drop(network);
    let mut client = TcpStream::connect(port.listen()).await.unwrap();
    let error = client.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}
