"""`resty.openssl`: digests, keys, certificates and ciphers as Lua plugins use them, against `cryptography` itself."""

import datetime
import hashlib
import hmac
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from headgate.lua.functions import FunctionSet, _sandbox
from headgate.lua.vm import vm
from headgate.pdk import configure_node

PEM, PKCS8, PLAIN = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def pem(key: Any) -> str:
    return str(key.private_bytes(PEM, PKCS8, PLAIN).decode())


def public_pem(key: Any) -> str:
    shape = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_key().public_bytes(PEM, shape).decode())


def certificate() -> str:
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "ann"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Org")]
    )
    start = datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(EC_KEY.public_key())
        .serial_number(0xABC)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=10))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example"), x509.DNSName("b.example")]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(EC_KEY, hashes.SHA256())
    )
    return built.public_bytes(PEM).decode()


def run(source: str, *arguments: Any) -> Any:
    """Return what a chunk returns: bytes come as texts of Latin-1."""
    return vm().compile(source, "=test")(*arguments)


def raw(text: Any) -> bytes:
    assert isinstance(text, str)
    return text.encode("latin-1")


def test_digests_go_on_and_begin_anew() -> None:
    source = """
    local d = assert(require("resty.openssl.digest").new("SHA256"))
    assert(d:update("a", "b"))
    local first = d:final("c")
    d:reset()
    return first, d:final("abc")"""
    first, again = run(source)
    assert raw(first) == raw(again) == hashlib.sha256(b"abc").digest()
    assert (
        run("return require('resty.openssl.digest').new('nothing')")[1] == 'digest.new: invalid digest type "nothing"'
    )


def test_keyed_digests_are_those_of_the_standard_library() -> None:
    source = """
    local h = assert(require("resty.openssl.hmac").new("key", "sha512"))
    h:update("a") local first = h:final("b") h:reset() assert(h:final("ab") == first) return first"""
    assert raw(run(source)) == hmac.digest(b"key", b"ab", "sha512")


def test_random_bytes_have_the_length() -> None:
    assert len(run("return require('resty.openssl.rand').bytes(33)")) == 33


@pytest.mark.parametrize("how", ["text", "digest"])
def test_an_rsa_signature_is_checked_by_the_other_side(how: str) -> None:
    value = (
        "text"
        if how == "text"
        else "(function() local d = require('resty.openssl.digest').new('sha256') d:update(text) return d end)()"
    )
    source = f"""
    local private, public, text = ...
    local key = assert(require("resty.openssl.pkey").new(private))
    local signature = assert(key:sign({value}, "sha256"))
    local other = assert(require("resty.openssl.pkey").new(public))
    assert(other:verify(signature, {value}, "sha256") == true)
    assert(other:verify(signature, text .. "x", "sha256") == false)
    return signature"""
    signature = raw(run(source, pem(RSA_KEY), public_pem(RSA_KEY), "body"))
    RSA_KEY.public_key().verify(signature, b"body", padding.PKCS1v15(), hashes.SHA256())


def test_pss_and_raw_ecdsa_signatures() -> None:
    source = """
    local rsa, ec = ...
    local pkey = require "resty.openssl.pkey"
    local pss = pkey.PADDINGS.RSA_PKCS1_PSS_PADDING
    local key = pkey.new(rsa)
    assert(key:verify(assert(key:sign("t", "sha256", pss)), "t", "sha256", pss) == true)
    local other = pkey.new(ec)
    local signature = assert(other:sign("t", "sha256", nil, { ecdsa_use_raw = true }))
    assert(#signature == 64 and other:verify(signature, "t", "sha256", nil, { ecdsa_use_raw = true }) == true)
    return other:sign("t")"""
    EC_KEY.public_key().verify(raw(run(source, pem(RSA_KEY), pem(EC_KEY))), b"t", ec.ECDSA(hashes.SHA256()))


def test_keys_are_made_written_and_read_in_every_form() -> None:
    run("""
    local pkey = require "resty.openssl.pkey"
    local configs = { { type = "EC", curve = "prime256v1" }, { type = "Ed25519" }, { type = "RSA", bits = 2048 } }
    for _, config in ipairs(configs) do
      local key = assert(pkey.new(config))
      local signature = assert(key:sign("text"))
      assert(key:is_private() and pkey.istype(key) and key:get_key_type().sn)
      for _, form in ipairs { "PEM", "DER", "JWK" } do
        local public = assert(pkey.new(assert(key:tostring("public", form)), { format = form, type = "pu" }))
        assert(public:verify(signature, "text") == true and not public:is_private(), config.type .. form)
        local private = assert(pkey.new(assert(key:tostring("private", form)), { format = form, type = "pr" }))
        assert(private:to_PEM("private") == key:to_PEM("private"), config.type .. form)
      end
    end
    local x, y = assert(pkey.new({ type = "X25519" })), assert(pkey.new({ type = "X25519" }))
    local to_y = pkey.new(y:to_PEM("public"))
    local to_x = pkey.new(x:to_PEM("public"))
    assert(assert(x:derive(to_y)) == assert(y:derive(to_x)))
    """)


def test_the_numbers_of_a_key_can_be_read() -> None:
    source = """
    local parameters = require("resty.openssl.pkey").new(...):get_parameters()
    return parameters.n:to_hex(), tostring(parameters.e), parameters.e:to_number()"""
    modulus, exponent, number = run(source, pem(RSA_KEY))
    assert int(modulus, 16) == RSA_KEY.public_key().public_numbers().n
    assert (exponent, number) == ("65537", 65537)


def test_what_is_encrypted_for_a_key_is_decrypted_by_it() -> None:
    source = """
    local pkey = require "resty.openssl.pkey"
    local key, oaep = pkey.new(...), pkey.PADDINGS.RSA_PKCS1_OAEP_PADDING
    assert(key:decrypt(assert(key:encrypt("secret"))) == "secret")
    return key:decrypt(assert(key:encrypt("secret", oaep)), oaep)"""
    assert run(source, pem(RSA_KEY)) == "secret"


def test_faults_are_told_and_not_raised() -> None:
    assert run("return require('resty.openssl.pkey').new('no key')")[1].startswith("pkey.new: cannot read the key")
    assert run("return require('resty.openssl.pkey').new({ type = 'RSA', bits = 1e6 })")[1] == (
        "pkey.new: bits must be between 1024 and 4096"
    )
    assert run("return require('resty.openssl.x509').new('no certificate')")[1].startswith("x509.new: ")


def test_a_certificate_tells_what_is_in_it() -> None:
    source = """
    local text, key = ...
    local cert = assert(require("resty.openssl.x509").new(text))
    local names = {}
    for kind, value in cert:get_subject_alt_name():each() do names[#names + 1] = kind .. ":" .. value end
    local pkey = require("resty.openssl.pkey").new(key)
    assert(cert:verify(pkey) == true and cert:check_private_key(pkey) == true)
    assert(cert:to_PEM() == text and #cert:digest("sha256") == 32 and #cert:pubkey_digest() == 20)
    assert(cert:get_basic_constraints("ca") == true and cert:get_version() == 3)
    return cert:get_subject_name():find("CN").blob, cert:get_issuer_name():tostring(),
      cert:get_serial_number():to_hex(), cert:get_not_before(),
      cert:get_not_after() - cert:get_not_before(), table.concat(names, ","), cert:get_pubkey():get_key_type().sn"""
    found = run(source, certificate(), pem(EC_KEY))
    assert found == ("ann", "CN=ann/O=Org", "0ABC", 1704153600, 864000, "DNS:a.example,DNS:b.example", "id-ecPublicKey")


def test_ciphers_go_back_and_forth() -> None:
    run("""
    local cipher = require "resty.openssl.cipher"
    local key, iv = ("k"):rep(32), ("i"):rep(16)
    local cbc = assert(cipher.new("aes-256-cbc"))
    assert(cbc:decrypt(key, iv, assert(cbc:encrypt(key, iv, "some text"))) == "some text")
    assert(select(2, cbc:encrypt("short", iv, "x")) == "cipher:init: expect key to be 32 bytes, got 5")
    local gcm = assert(cipher.new("aes-256-gcm"))
    local sealed = assert(gcm:encrypt(key, iv:sub(1, 12), "some text", false, "aad"))
    local tag = gcm:get_aead_tag()
    assert(#tag == 16 and gcm:decrypt(key, iv:sub(1, 12), sealed, false, "aad", tag) == "some text")
    assert(gcm:decrypt(key, iv:sub(1, 12), sealed, false, "other", tag) == nil)
    local chacha = assert(cipher.new("chacha20-poly1305"))
    sealed = assert(chacha:encrypt(key, iv:sub(1, 12), "text", false, "aad"))
    assert(chacha:decrypt(key, iv:sub(1, 12), sealed, false, "aad", chacha:get_aead_tag()) == "text")
    assert(cipher.new("rot13") == nil)
    """)


def test_keys_are_derived_from_passwords() -> None:
    source = """
    local kdf = require "resty.openssl.kdf"
    local options = { type = kdf.PBKDF2, md = "sha256", outlen = 32, pass = "p\\255", salt = "s", pbkdf2_iter = 1000 }
    return kdf.derive(options)"""
    assert raw(run(source)) == hashlib.pbkdf2_hmac("sha256", b"p\xff", b"s", 1000, 32)
    assert (
        "out of range"
        in run(
            "return require('resty.openssl.kdf').derive({ type = 'PBKDF2', outlen = 1, pass = 'p', pbkdf2_iter = 1e9 })"
        )[1]
    )


def test_functions_in_strict_mode_may_use_it() -> None:
    configure_node({"untrusted_lua": "strict"})
    _sandbox.cache_clear()
    try:
        source = "assert(#require('resty.openssl').digest.new('sha1'):final('x') == 20)"
        FunctionSet("pre-function", {"access": [source]}).run("access")
    finally:
        configure_node({})
        _sandbox.cache_clear()
