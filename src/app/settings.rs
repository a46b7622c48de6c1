//! What each room is told, from the settings of the node.

use std::time::Duration;

use anyhow::Result;

use super::cluster::standby_mode;
use crate::actors::{self, Policies};
use crate::cluster::{peers, steward};
use crate::config::{self, Config, KafkaSaslMechanism, KafkaSecurity};
use crate::domain::Policy;
use crate::journal::kafka;
use crate::{http, webhooks};

pub(super) fn policies(config: &Config) -> Policies {
    let policy = |app: &config::App| Policy {
        blocks_max: app.limits.blocks_max,
        friends_max: app.limits.friends_max,
        requests_max: app.limits.requests_max,
        groups_max: app.limits.groups_max,
        subscriptions_max: app.webhook.others.subscriptions_max,
        remain_friends: app.block.remain_friends,
        import_ignores_blocklist: app.friend.import_ignores_blocklist,
        default_allow_type: app.friend.default_allow_type,
    };
    config.apps.iter().map(|app| (app.id, policy(app))).collect()
}

pub(super) fn actor_settings(config: &Config, partitions: u16) -> actors::Settings {
    let share = usize::from(partitions.max(1));
    actors::Settings {
        arbiters: config.actors.arbiters,
        residents_max: (config.actors.resident_users_max / share).max(1),
        resident_bytes_max: config.actors.resident_bytes_max.as_usize() / share,
        idle_max: Duration::from_secs(config.actors.idle_s),
        mailbox_max: config.actors.mailbox_max,
        partition_mailbox_max: config.actors.partition_mailbox_max,
        in_flight_max: config.actors.in_flight_max,
        // Half of it, because the last record admitted may be a large one.
        in_flight_bytes_max: config.journal.pending_bytes_max.as_usize() / share / 2,
        outbox_max: config.actors.outbox_max,
        time_limit: Duration::from_millis(config.http.request_timeout_ms),
        checkpoint_interval: Duration::from_millis(config.store.checkpoint_interval_ms),
        checkpoint_records: config.store.checkpoint_records,
        snapshot_records: config.store.snapshot_records,
        snapshot_interval: Duration::from_secs(config.store.snapshot_interval_s),
        ..actors::Settings::default()
    }
}

pub(super) fn http_settings(config: &Config) -> http::Settings {
    let app = |app: &config::App| http::App {
        id: app.id,
        enabled: app.enabled,
        admins: app.admins.iter().map(ToString::to_string).collect(),
        keys: app.keys.iter().map(|key| key.reveal().to_owned()).collect(),
        rate_limits: rate_limits(app),
        delete_allowed: app.account.delete_allowed,
        default_allow_type: app.friend.default_allow_type,
        friend_fields: app.friend.custom_fields.iter().map(|field| field.0.clone()).collect(),
        profile_fields: app.profile.custom_fields.iter().map(|field| field.0.clone()).collect(),
        messages: http::MessageRules {
            bytes_max: app.c2c.message_bytes_max.as_usize(),
            batch_receivers_per_minute: app.c2c.batch_receivers_per_minute,
            blocked_send_looks_ok: app.c2c.blocked_send_looks_ok,
            require_friend: app.c2c.require_friend,
            block_stops_both: app.c2c.block_stops_both,
        },
    };
    let workers = config.http.workers;
    http::Settings {
        node: config.node.name.as_str().to_owned(),
        apps: config.apps.iter().map(app).collect(),
        body_bytes_max: config.http.body_bytes_max.as_usize(),
        request_timeout: Duration::from_millis(config.http.request_timeout_ms),
        workers: Some(workers),
        trusted_proxies: subnets(&config.http.trusted_proxies).collect(),
        connections_max: config.http.connections_max.div_ceil(workers.max(1)),
        keep_alive: Duration::from_secs(config.http.keep_alive_s),
        shutdown_timeout_s: config.server.shutdown_grace_s,
        ..http::Settings::default()
    }
}

fn rate_limits(app: &config::App) -> http::RateLimits {
    let config::RateLimits::On { app_per_second, changed } = &app.rate_limits else {
        return http::RateLimits::Off;
    };
    let overrides = http::Operation::ALL
        .iter()
        .filter_map(|operation| changed.get(operation.command()).map(|limit| (*operation, *limit)));
    http::RateLimits::PerCommand { overrides: overrides.collect(), whole_app: *app_per_second }
}

pub(super) fn subnets(settings: &[config::Subnet]) -> impl Iterator<Item = webhooks::Subnet> {
    // A setting that is no subnet is refused when it is read.
    settings.iter().filter_map(|of| webhooks::Subnet::new(of.address, of.prefix))
}

/// What the journal in Kafka has to know.
pub fn kafka_settings(config: &Config) -> kafka::Settings {
    kafka::Settings {
        cluster: kafka_cluster(config),
        partitions: config.journal.partitions,
        replication: if config.kafka.development { 1 } else { config.kafka.replication },
        development: config.kafka.development,
        pending_bytes_max: config.journal.pending_bytes_max.as_usize(),
    }
}

/// Where the Kafka cluster is.
pub fn kafka_cluster(config: &Config) -> kafka::ClusterSettings {
    let kafka = &config.kafka;
    let tls = matches!(kafka.security, KafkaSecurity::Tls | KafkaSecurity::SaslTls);
    let mechanism = match kafka.sasl_mechanism {
        KafkaSaslMechanism::Plain => kafka::SaslMechanism::Plain,
        KafkaSaslMechanism::ScramSha256 => kafka::SaslMechanism::ScramSha256,
        KafkaSaslMechanism::ScramSha512 => kafka::SaslMechanism::ScramSha512,
    };
    let sasl = match (&kafka.sasl_username, &kafka.sasl_password) {
        (Some(username), Some(password)) => Some(kafka::Sasl {
            mechanism,
            username: username.reveal().to_owned(),
            password: password.reveal().to_owned(),
        }),
        _ => None,
    };
    kafka::ClusterSettings {
        brokers: kafka.brokers.iter().map(|broker| broker.as_str().to_owned()).collect(),
        prefix: kafka.prefix.as_str().to_owned(),
        security: kafka::Security {
            tls: tls.then(|| kafka::Tls {
                ca_file: kafka.ca_file.clone(),
                certificate_file: kafka.certificate_file.clone(),
                key_file: kafka.key_file.clone(),
            }),
            sasl,
        },
        client_id: format!("cordon-{}", config.node.name.as_str()),
    }
}

pub(super) fn peer_settings(config: &Config) -> Result<peers::Settings> {
    let node = &config.node;
    let security = match (node.tls(), &node.secret) {
        (Some(files), _) => peers::Security::Tls(peers::Tls {
            ca: files.ca.to_owned(),
            certificate: files.certificate.to_owned(),
            key: files.key.to_owned(),
        }),
        (None, Some(secret)) => {
            let key = peers::Key::new(secret.reveal())?;
            peers::Security::Key(match &config.node.other_secret {
                Some(other) => key.accepting(other.reveal())?,
                None => key,
            })
        }
        (None, None) => peers::Security::Plain,
    };
    Ok(peers::Settings { node: node.name.as_str().to_owned(), security })
}

pub(super) fn steward_settings(config: &Config, address: String) -> steward::Settings {
    steward::Settings {
        node: config.node.name.as_str().to_owned(),
        address,
        dead_after: Duration::from_millis(config.node.dead_after_ms),
        standby: standby_mode(config.node.standby),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Operation;
    use crate::http::settings::CALLS_PER_SECOND_MAX;

    const APP: &str = "[[app]]\nid = 7\nkeys = \"k\"\n";

    /// Rule: rest-api.md 1.6.
    #[test]
    fn every_command_has_the_limit_of_the_edge_and_takes_another_one() {
        let routes: Vec<&str> = Operation::ALL.iter().map(|one| one.command()).collect();
        assert_eq!(routes, config::COMMANDS);
        let limits_with = |text: &str| {
            let variables = [("CORDON_RATE_LIMITS".to_owned(), text.to_owned())].into();
            let config = Config::parse(Some(("cordon.toml", APP)), &variables).expect(text);
            rate_limits(&config.apps[0])
        };
        for operation in Operation::ALL {
            let of = |text: &str| limits_with(text).of(*operation);
            let (command, largest) = (operation.command(), CALLS_PER_SECOND_MAX);
            assert_eq!(of("on"), Some(operation.calls_per_second()), "{command}");
            assert_eq!(of("off"), None, "{command}");
            assert_eq!(of(&format!("{command}=off")), None, "{command}");
            assert_eq!(of(&format!("{command}={largest}")), Some(largest), "{command}");
        }
        assert_eq!(limits_with("on").of(Operation::BlackListAdd), Some(200));
        assert_eq!(limits_with("on").of_whole_app(), None);
        assert_eq!(limits_with("app_per_second=9").of_whole_app(), Some(9));
    }
}
