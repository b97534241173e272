"""Letters through the queue to a real mail server on loopback."""

import datetime as dt
import socket
import ssl
import threading
from contextlib import contextmanager
from email import message_from_bytes, policy

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from millpond.ground.actor import Actor
from millpond.ground.errors import ConflictError
from millpond.ground.settings import MailSettings
from millpond.jobs import actions, mail
from millpond.jobs.pool import Pool
from millpond.people.letters import Letter
from millpond.people.vault import SecretBox

ADMIN = Actor("user_root", "root", is_admin=True)
BOX = SecretBox(b"b" * 32)
LETTER = Letter(
    "ann@lab.example", "Your new password", "Grüße!\nhttps://x.example/reset?code=SECRET\n"
)


class Mailbox:
    """Keeps what comes in; refuses whom it was told to, with a code of its own."""

    def __init__(self):
        self.letters, self.refusals, self.came = [], {}, threading.Event()

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in self.refusals:
            return self.refusals[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.letters.append(message_from_bytes(envelope.content, policy=policy.default))
        self.tls = session.ssl is not None
        self.came.set()
        return "250 taken"


def sign_in(server, session, envelope, mechanism, data):
    is_right = (data.login, data.password) == (b"mill", b"pond")
    return AuthResult(success=is_right, handled=is_right)


@contextmanager
def serving(mailbox, **options):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    controller = Controller(mailbox, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Make a certificate that signs itself; give the server's side and a client that trusts it."""
    folder, key = tmp_path_factory.mktemp("tls"), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "all.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    trust = ssl.create_default_context(
        cadata=made.public_bytes(serialization.Encoding.PEM).decode()
    )
    return server, trust


def settings(port, **more):
    return MailSettings(
        **{"host": "localhost", "port": port, "tls": "none", "sender": "pond@lab.example", **more}
    )


def post(database, letter=LETTER):
    database.change(lambda tx: mail.post_letter(tx, letter, box=BOX))
    return database.read(lambda tx: actions.list_jobs(tx, ADMIN)).items[0].id


def attempt(database, chosen, trust=None, until=("done", "dead")):
    """Let a pool send what is in the queue; give the job."""
    handler = mail.make_mail(chosen, BOX, trust=trust)
    tried = threading.Event()

    def once(lease):
        try:
            handler(lease)
        finally:
            tried.set()

    pool = Pool(database, {mail.MAIL_KIND: once}, workers=1, poll_seconds=0.05)
    pool.start()
    assert tried.wait(20)
    pool.stop(10)
    return database.read(lambda tx: actions.list_jobs(tx, ADMIN)).items[0]


def test_a_letter_goes_out_when_its_transaction_commits(database):
    mailbox = Mailbox()

    def change_its_mind(tx):
        mail.post_letter(tx, LETTER, box=BOX)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database.change(change_its_mind)
    job_id = post(database)
    with serving(mailbox) as port:
        job = attempt(database, settings(port))
    assert (job.id, job.state) == (job_id, "done")
    (letter,) = mailbox.letters
    assert letter["To"] == "ann@lab.example"
    assert letter["From"] == "Millpond <pond@lab.example>"
    assert letter["Message-ID"] == f"<{job_id}@lab.example>"
    assert letter.get_content().replace("\r\n", "\n") == LETTER.text
    assert "SECRET" not in str(job.facts)
    assert "SECRET" not in repr(LETTER)


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_the_line_is_secret_and_the_server_known(database, certificate, tls):
    inside, trust = certificate
    mailbox = Mailbox()
    options = {"ssl_context": inside} if tls == "tls" else {"tls_context": inside}
    must = tls == "starttls"  # The other line is secret before its first word.
    options |= {"authenticator": sign_in, "auth_required": must, "auth_require_tls": must}
    post(database)
    with serving(mailbox, **options) as port:
        signed = settings(port, tls=tls, user="mill", password="pond")
        stranger = attempt(database, signed)
        assert stranger.state == "waiting"
        assert "not trusted" in stranger.reason
        assert not mailbox.letters
        letter = mail.message_of(signed, BOX, stranger)
        wrong = settings(port, tls=tls, user="mill", password="pool")
        with pytest.raises(ConflictError, match="535"):
            mail.send_letter(wrong, letter, trust=trust)
        mail.send_letter(signed, letter, trust=trust)
    assert len(mailbox.letters) == 1
    assert mailbox.tls or not must


def test_a_server_without_tls_gets_nothing_when_tls_is_asked_for(database):
    mailbox = Mailbox()
    post(database)
    with serving(mailbox) as port:
        job = attempt(database, settings(port, tls="starttls"))
    assert job.state == "dead"
    assert "STARTTLS" in job.reason
    assert not mailbox.letters


def test_a_refusal_for_now_is_tried_again_and_one_for_good_is_not(database):
    mailbox = Mailbox()
    mailbox.refusals["ann@lab.example"] = "451 greylisted, come again"
    post(database)
    with serving(mailbox) as port:
        job = attempt(database, settings(port))
        assert job.state == "waiting"
        assert "451: greylisted" in job.reason
    mailbox.refusals["bob@lab.example"] = "550 no such person"
    post(database, Letter("bob@lab.example", "x", "y"))
    with serving(mailbox) as port:
        job = attempt(database, settings(port))
    assert job.state == "dead"
    assert "550: no such person" in job.reason


def test_a_server_that_is_away_is_tried_again(database):
    with serving(Mailbox()) as port:
        pass
    post(database)
    job = attempt(database, settings(port))
    assert job.state == "waiting"
    assert "cannot be reached" in job.reason


@pytest.mark.parametrize(
    "to", ["a,b@lab.example", "a@b\r\nBcc: c@d.example", "nobody", "<a@b>, c@d"]
)
def test_one_letter_goes_to_one_address(database, to):
    mailbox = Mailbox()
    post(database, Letter(to, "x", "y"))
    with serving(mailbox) as port:
        job = attempt(database, settings(port))
    assert job.state == "dead"
    assert "cannot be addressed" in job.reason
    assert not mailbox.letters


def test_without_a_mail_server_there_is_no_post():
    assert mail.open_post(MailSettings(), BOX) is None
    assert mail.open_post(settings(25), BOX) is not None
