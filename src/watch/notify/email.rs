//! E-mail by SMTP.

use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::Tls;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::channel::SendError;
use super::destination::{Destination, Reach};
use super::notice::Notice;
use super::tls;
use crate::config::ConfigError;
use crate::config::notify::{self as settings, Secret, Security};

pub(super) struct Email {
    host: String,
    port: u16,
    security: Security,
    from: Mailbox,
    to: Vec<Mailbox>,
    credentials: Option<Credentials>,
    timeout: Duration,
}

impl std::fmt::Debug for Email {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Email")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}

impl Email {
    pub(super) fn new(settings: &settings::Email, timeout: Duration) -> Result<Self, ConfigError> {
        let mailbox = |text: &String| {
            text.parse::<Mailbox>().map_err(|err| {
                let name = &settings.name;
                ConfigError::Invalid(format!(
                    "watch.notify.channels: `{text}` of `{name}` is no mail address: {err}"
                ))
            })
        };
        let variable = settings.password_env.as_deref();
        let password = Secret::find(settings.password.as_ref(), variable)?;
        let credentials = settings.username.clone().zip(password);
        Ok(Self {
            host: settings.host.clone(),
            port: settings.port.unwrap_or(settings.security.port()),
            security: settings.security,
            from: mailbox(&settings.from)?,
            to: settings.to.iter().map(mailbox).collect::<Result<_, _>>()?,
            credentials: credentials
                .map(|(user, password)| Credentials::new(user, password.expose().to_owned())),
            timeout,
        })
    }

    pub(super) async fn send(&self, notice: &Notice, reach: &Reach) -> Result<(), SendError> {
        let sending = self.send_at_leisure(notice, reach);
        let sent = tokio::time::timeout(self.timeout, sending).await;
        sent.unwrap_or(Err(SendError::Timeout(self.timeout)))
    }

    async fn send_at_leisure(&self, notice: &Notice, reach: &Reach) -> Result<(), SendError> {
        let destination = Destination::resolve(&self.host, self.port, reach).await?;
        let message = self.message(notice)?;
        let mut outcome = Ok(());
        for address in destination.addresses {
            // By its address, which was looked at; the certificate is checked for the name.
            let server = address.ip().to_string();
            let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server)
                .port(self.port)
                .tls(self.tls()?)
                .timeout(Some(self.timeout));
            if let Some(credentials) = &self.credentials {
                transport = transport.credentials(credentials.clone());
            }
            match transport.build().send(message.clone()).await {
                Ok(_) => return Ok(()),
                // The server has answered: another address of it would say the same.
                Err(err) if err.status().is_some() => return Err(err.into()),
                Err(err) => outcome = Err(err.into()),
            }
        }
        outcome
    }

    fn tls(&self) -> Result<Tls, SendError> {
        Ok(match self.security {
            Security::None => Tls::None,
            Security::StartTls => Tls::Required(tls::for_smtp(&self.host)?),
            Security::Tls => Tls::Wrapper(tls::for_smtp(&self.host)?),
        })
    }

    fn message(&self, notice: &Notice) -> Result<Message, SendError> {
        // One thread for an incident, where the mail program makes threads.
        let thread = format!("<{}@incident.evenkeel>", notice.incident);
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(notice.headline())
            .date(notice.at.into())
            .message_id(Some(format!("<{}@evenkeel>", notice.id)))
            .references(thread)
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            message = message.to(to.clone());
        }
        Ok(message.body(notice.text())?)
    }
}
