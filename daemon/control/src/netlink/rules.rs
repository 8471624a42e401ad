//! Policy rules that divert default routes into the tunnel, and the table that they lead to.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rtnetlink::{IpVersion, RouteMessageBuilder};

use super::{Diversion, Doing as _, Family, MAIN_TABLE, Network, NetworkError};

/// The first table that is tried for a diverted default route, and its mark: the port that the world knows WireGuard by,
/// as `wg-quick(8)` has it.
const FIRST_TABLE: u32 = 51820;

/// With strict reverse path filtering, the answers to marked datagrams are looked up with the mark too.
const SRC_VALID_MARK: &str = "/proc/sys/net/ipv4/conf/all/src_valid_mark";

/// The rules of one [`Diversion`]. Their priorities tell them from equal ones of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RulePair {
    pub(super) diversion: Diversion,
    /// Of `not fwmark MARK lookup MARK`; that of `lookup main suppress_prefixlength 0` is one less.
    priority: u32,
}

impl RulePair {
    fn messages(&self) -> [RuleMessage; 2] {
        let Diversion { family, mark } = self.diversion;
        let mut diverted = rule(family, mark, self.priority);
        diverted.header.flags = RuleFlags::Invert;
        diverted.attributes.push(RuleAttribute::FwMark(mark));
        let mut main = rule(family, MAIN_TABLE, self.priority - 1);
        main.attributes.push(RuleAttribute::SuppressPrefixLen(0));
        // The exception first: were it missing for a moment, everything would take the tunnel in that moment.
        [main, diverted]
    }
}

fn rule(family: Family, table: u32, priority: u32) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    message.header.action = RuleAction::ToTable;
    message.attributes.push(RuleAttribute::Table(table));
    message.attributes.push(RuleAttribute::Priority(priority));
    message
}

impl Network {
    /// Adds the rules before every other but the local one, where `ip rule add` would put them.
    pub(super) async fn divert(&mut self, diversion: Diversion) -> Result<(), NetworkError> {
        let action = || format!("add the rules that divert the default route into {}", self.name);
        let rules = self.rules_of(diversion.family).await?;
        let first = rules
            .iter()
            .map(priority)
            .filter(|&priority| priority != 0)
            .min()
            .unwrap_or(MAIN_PRIORITY);
        if first < 3 {
            let full = io::Error::other(format!(
                "there is a rule of priority {first}, and no room before it"
            ));
            return Err(NetworkError::new(action(), full));
        }
        let pair = RulePair {
            diversion,
            priority: first - 1,
        };
        // Noted first: what the kernel may have is what has to be taken back.
        self.rules.push(pair);
        for message in pair.messages() {
            let mut request = self.handle.rule().add();
            *request.message_mut() = message;
            request
                .execute()
                .await
                .doing(|| format!("add the rules that divert the default route into {}", self.name))?;
        }
        if diversion.family == Family::V4 {
            set_src_valid_mark();
        }
        Ok(())
    }

    /// Removes those of our rules that `is_gone` names.
    pub(super) async fn remove_rules(
        &mut self,
        is_gone: impl Fn(&RulePair) -> bool,
    ) -> Result<(), NetworkError> {
        while let Some(position) = self.rules.iter().position(&is_gone) {
            let [main, diverted] = self.rules[position].messages();
            for message in [diverted, main] {
                self.remove_rule(message).await?;
            }
            self.rules.remove(position);
        }
        Ok(())
    }

    /// Removes the rules that a daemon left behind when it was killed: such as lead to the table `mark`, in which there is
    /// no route. The interface's routes went with it.
    pub(super) async fn clear_stale_rules(&self, mark: u32) -> Result<(), NetworkError> {
        if !self.is_free(mark).await? {
            return Ok(());
        }
        for family in [Family::V4, Family::V6] {
            let present = self.rules_of(family).await?;
            for rule in &present {
                let pair = RulePair {
                    diversion: Diversion { family, mark },
                    priority: priority(rule),
                };
                if !(pair.priority > 1 && is_same(rule, &pair.messages()[1])) {
                    continue;
                }
                for message in pair.messages() {
                    if present.iter().any(|rule| is_same(rule, &message)) {
                        self.remove_rule(message).await?;
                    }
                }
                tracing::info!(mark, "removed a policy rule that an earlier daemon left behind");
            }
        }
        Ok(())
    }

    /// The first table from [`FIRST_TABLE`] on without a route.
    pub(super) async fn free_table(&self) -> Result<u32, NetworkError> {
        let mut table = FIRST_TABLE;
        while !self.is_free(table).await? {
            table += 1;
        }
        Ok(table)
    }

    async fn is_free(&self, table: u32) -> Result<bool, NetworkError> {
        let dumps = [
            unfiltered(RouteMessageBuilder::<Ipv4Addr>::new().table_id(table).build()),
            unfiltered(RouteMessageBuilder::<Ipv6Addr>::new().table_id(table).build()),
        ];
        for dump in dumps {
            let mut routes = std::pin::pin!(self.handle.route().get(dump).execute());
            let first = routes
                .try_next()
                .await
                .doing(|| format!("list the routes of table {table}"));
            match first {
                Ok(Some(_)) => return Ok(false),
                Ok(None) => {}
                Err(error) if error.is(libc::ENOENT) || no_such_family(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    async fn rules_of(&self, family: Family) -> Result<Vec<RuleMessage>, NetworkError> {
        let version = match family {
            Family::V4 => IpVersion::V4,
            Family::V6 => IpVersion::V6,
        };
        let rules = self.handle.rule().get(version).execute().try_collect().await;
        match rules.doing(|| "list the policy rules".to_owned()) {
            Err(error) if no_such_family(&error) => Ok(Vec::new()),
            rules => rules,
        }
    }

    async fn remove_rule(&self, message: RuleMessage) -> Result<(), NetworkError> {
        let removed = self.handle.rule().del(message).execute().await;
        match removed.doing(|| format!("remove a policy rule of {}", self.name)) {
            Err(error) if error.is(libc::ENOENT) || no_such_family(&error) => Ok(()),
            result => result,
        }
    }
}

/// Priority of the rule for the main table, before which ours go (`FIB_RULES_MAIN`).
const MAIN_PRIORITY: u32 = 32766;

/// A kernel without IPv6 has no rules and routes of it either.
fn no_such_family(error: &NetworkError) -> bool {
    error.is(libc::EAFNOSUPPORT) || error.is(libc::EOPNOTSUPP)
}

/// For a question to the kernel: nothing but table and destination to look for.
pub(super) fn unfiltered(mut message: RouteMessage) -> RouteMessage {
    message.header.protocol = RouteProtocol::Unspec;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unspec;
    message
}

fn priority(rule: &RuleMessage) -> u32 {
    let priority = |attribute: &RuleAttribute| match attribute {
        RuleAttribute::Priority(priority) => Some(*priority),
        _ => None,
    };
    rule.attributes.iter().find_map(priority).unwrap_or(0)
}

/// True if `rule`, as the kernel prints it, is what `made` asked for: the kernel adds attributes of its own.
fn is_same(rule: &RuleMessage, made: &RuleMessage) -> bool {
    let selects = |rule: &RuleMessage| {
        rule.attributes.iter().any(|attribute| {
            use RuleAttribute as A;
            matches!(
                attribute,
                A::Iifname(_) | A::Oifname(_) | A::Source(_) | A::Destination(_) | A::UidRange(_)
            )
        })
    };
    rule.header.flags.contains(RuleFlags::Invert) == made.header.flags.contains(RuleFlags::Invert)
        && !selects(rule)
        && made
            .attributes
            .iter()
            .all(|attribute| rule.attributes.contains(attribute))
}

/// Left as it is at the end, as by `wg-quick(8)`: another tunnel may have come to need it.
fn set_src_valid_mark() {
    if std::fs::read_to_string(SRC_VALID_MARK).is_ok_and(|value| value.trim() == "1") {
        return;
    }
    if let Err(error) = std::fs::write(SRC_VALID_MARK, "1") {
        tracing::warn!(
            "cannot set sysctl net.ipv4.conf.all.src_valid_mark: {error}; where rp_filter is 1, answers through the \
             tunnel will be dropped until it is set"
        );
    }
}
