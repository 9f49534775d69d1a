"""What `require` finds: each library does what its users expect of it, told in Lua."""

from pathlib import Path

import pytest

from headgate.lua.vm import LIBRARY, vm
from headgate.pdk._node import node

MADE_ONCE = {"headgate.kong", "headgate.ngx"}
MODULES = sorted(
    ".".join(path.relative_to(LIBRARY).with_suffix("").parts).removesuffix(".init") for path in LIBRARY.rglob("*.lua")
)

FACTS = {
    "cjson keeps null and empty arrays": """
        local c = require 'cjson'
        local v = c.decode('{"a":null,"b":[1,2.5,"x\\\\u00e9\\\\n"],"c":{},"d":true}')
        assert(v.a == ngx.null and v.b[2] == 2.5 and v.b[3] == 'x\\195\\169\\n' and v.d)
        assert(c.encode({1, {a = c.null}}) == '[1,{"a":null}]' and c.encode(c.empty_array) == '[]')
        assert(c.encode(setmetatable({}, c.array_mt)) == '[]' and c.encode({}) == '{}')
        assert(not pcall(c.decode, '{"a":}') and not pcall(c.encode, {print}))
        assert(not pcall(c.encode, {[1] = 1, [1000] = 2}))""",
    "instances of cjson have options of their own": """
        local cjson, safe = require 'cjson', require 'cjson.safe'
        local own = safe.new() own.encode_empty_table_as_object(false) own.decode_array_with_array_mt(true)
        assert(own.encode({}) == '[]' and safe.encode({}) == '{}' and cjson.encode({}) == '{}')
        assert(own.encode(own.decode('{"a":[]}')) == '{"a":[]}' and getmetatable(cjson.decode('[]')) == nil)
        own.encode_escape_forward_slash(false) assert(own.encode('/') == '"/"' and cjson.encode('/') == '"\\\\/"')
        own.encode_invalid_numbers('null') assert(own.encode({1/0}) == '[null]' and not pcall(cjson.encode, 1/0))
        own.encode_sparse_array(true) assert(own.encode({[1] = 1, [1000] = 2}):find('"1000":2', 1, true))
        own.encode_skip_unsupported_value_types(true) assert(own.encode({1, print, 2}) == '[1,2]')
        assert(cjson.decode('[-Infinity, 0x1F]')[2] == 31 and not pcall(cjson.decode, 'nonsense'))
        own.decode_invalid_numbers(false) assert(own.decode('NaN') == nil)""",
    "cjson.safe tells instead of raising": """
        local v, err = require('cjson.safe').decode('[1,')
        assert(v == nil and type(err) == 'string')""",
    "ngx.re has captures, options and callbacks": """
        local m = ngx.re.match('hello, 1234', '(?<n>[0-9]+)', 'jo') assert(m[0] == '1234' and m.n == '1234')
        local from, to = ngx.re.find('hello, 1234', '([0-9])([0-9]+)', 'jo', nil, 2) assert(from == 9 and to == 11)
        assert(ngx.re.gsub('a.b.c', [[\\.]], '-') == 'a-b-c' and select(2, ngx.re.sub('aaa', 'a', 'b')) == 1)
        assert(ngx.re.gsub('abc', '(b)', function(x) return x[1]:upper() end) == 'aBc')
        assert(ngx.re.gsub('ab', '(a)(b)', '${2}$1$$') == 'ba$')
        local words = {} for w in ngx.re.gmatch('one two', [[\\w+]], 'jo') do words[#words + 1] = w[0] end
        assert(table.concat(words, '|') == 'one|two' and ngx.re.match('x', 'y') == nil)
        local bad, err = ngx.re.match('x', '(') assert(bad == nil and err)
        assert(ngx.re.match('ABC', 'abc', 'i') and not ngx.re.match('xabc', 'abc', 'a'))""",
    "a pattern that backtracks without end is given up": """
        local m, err = ngx.re.match(('a'):rep(40) .. 'b', '(a+)+$') assert(m == nil)""",
    "encodings and digests": """
        assert(ngx.encode_base64('hello') == 'aGVsbG8=' and ngx.decode_base64('aGVsbG8') == 'hello')
        assert(ngx.decode_base64('*') == nil and ngx.md5('') == 'd41d8cd98f00b204e9800998ecf8427e')
        assert(ngx.escape_uri('a b/ü') == 'a%20b%2F%C3%BC' and ngx.unescape_uri('a+b%2F') == 'a b/')
        assert(ngx.encode_args({a = 1, b = {'x', true}}) == 'a=1&b=x&b' and ngx.decode_args('a=1&b').b == true)
        assert(ngx.crc32_short('hello') == 907060870)
        assert(require('resty.string').to_hex(ngx.hmac_sha1('k', 'm')) == '772b71c8a2997e768be01d9711e4a4f34a24ef33')
        local d = require('resty.sha256'):new() d:update('a') d:update('b')
        assert(require('resty.string').to_hex(d:final()):sub(1, 8) == 'fb8e20fc')""",
    "times": """
        assert(ngx.http_time(0) == 'Thu, 01 Jan 1970 00:00:00 GMT' and ngx.parse_http_time(ngx.http_time(7)) == 7)
        assert(ngx.now() > 1e9 and ngx.time() <= ngx.now() and #ngx.today() == 10 and ngx.cookie_time(0):find('70'))""",
    "lrucache forgets the least recently used": """
        local c = require('resty.lrucache').new(2) c:set('a', 1) c:set('b', 2) c:get('a') c:set('c', 3)
        assert(c:get('a') == 1 and c:get('b') == nil and c:get('c') == 3 and c:count() == 2)
        c:set('d', 4, 0.000001) assert(c:get('d') == nil or true) c:delete('a') assert(c:get('a') == nil)""",
    "jwt signs and checks, and takes no public key as a secret": """
        local jwt = require 'resty.jwt'
        local token = jwt:sign('secret', {header = {typ = 'JWT', alg = 'HS256'}, payload = {sub = 'me'}})
        local ok = jwt:verify('secret', token) assert(ok.verified and ok.payload.sub == 'me')
        assert(not jwt:verify('other', token).verified and not jwt:verify('secret', 'a.b').valid)
        assert(not jwt:verify('-----BEGIN PUBLIC KEY-----', token).verified)
        local old = jwt:sign('s', {header = {alg = 'HS256'}, payload = {exp = 1}})
        assert(not jwt:verify('s', old).verified)""",
    "penlight": """
        local x, t = require 'pl.stringx', require 'pl.tablex'
        assert(table.concat(x.split('a,b,c', ','), '|') == 'a|b|c' and x.strip('  a ') == 'a')
        assert( x.startswith('ab', 'a'))
        assert(x.replace('a.b.c', '.', '%') == 'a%b%c' and select(3, x.rpartition('a/b/c', '/')) == 'c')
        assert(t.deepcompare(t.deepcopy({1, {2}}), {1, {2}}) and t.size({a = 1, b = 2}) == 2 and t.find({5, 6}, 6) == 2)
        assert(table.concat(require('pl.utils').split('a  b'), ',') == 'a,b')
        assert(require('pl.path').basename('/a/b.c') == 'b.c' and require('pl.pretty').write({1}):find('1'))""",
    "kong.tools": """
        local u = require 'kong.tools.utils'
        assert(u.is_valid_uuid(u.uuid()) and not u.is_valid_uuid('x') and u.table_contains({1}, 1))
        assert(#u.random_string() == 32)
        assert(u.inflate_gzip(u.deflate_gzip('hello')) == 'hello' and u.strip(' a ') == 'a')
        assert( u.hostname_type('::1') == 'ipv6')
        assert(require('kong.tools.sha256').sha256_hex(''):sub(1, 8) == 'e3b0c442' and u.validate_utf8('é'))
        local at = require('kong.tools.timestamp').get_timestamps(1700000000000)
        assert(at.minute == 1699999980000 and at.day == 1699920000000 and at.month == 1698796800000)
        assert(require('kong.meta').version == kong.version and require('kong.constants').HEADERS.CONSUMER_ID)
        assert(require('version')('1.10') > require('version')('1.9'))""",
    "tables and buffers of LuaJIT": """
        assert(table.isempty({}) and table.nkeys({1, a = 2}) == 2 and table.isarray({1, 2}))
        local b = require('string.buffer').new() b:put('a', 1) assert(b:get() == 'a1')
        local t = require('table.new')(4, 0) t[1] = 1 require('table.clear')(t)
        assert(t[1] == nil and bit.band(6, 3) == 2)""",
    "the parser of tokens that plugins share": """
        local parser, pkey = require 'kong.plugins.jwt.jwt_parser', require 'resty.openssl.pkey'
        local token = parser.encode({iss = 'me', exp = ngx.time() + 60}, 'secret')
        local jwt = parser:new(token)
        assert(jwt.claims.iss == 'me' and jwt.header.alg == 'HS256' and jwt:verify_signature('secret'))
        assert(not jwt:verify_signature('other') and jwt:verify_registered_claims({'exp'}))
        assert(jwt:check_maximum_expiration(100) and not jwt:check_maximum_expiration(10))
        local _, faults = jwt:verify_registered_claims({'nbf', 'exp'}) assert(faults.nbf == 'must be a number')
        _, faults = parser:new(parser.encode({exp = 1}, 's')):verify_registered_claims({'exp'})
        assert(faults.exp == 'token expired')
        local rsa, ec = {type = 'RSA', bits = 2048}, {type = 'EC', curve = 'prime256v1'}
        for _, made in ipairs {{'RS256', rsa}, {'ES256', ec}} do
          local key = pkey.new(made[2])
          local signed = parser:new(parser.encode({a = 1}, key:to_PEM('private'), made[1]))
          assert(signed:verify_signature(key:to_PEM('public')))
          assert(signed:verify_signature(key:tostring('public', 'DER')))
          assert(not signed:verify_signature(pkey.new(made[2]):to_PEM('public')))
        end
        assert(select(2, parser:new('a.b')) == 'invalid JSON' and select(2, parser:new('e30.e30.')) == 'invalid alg')
        assert(not pcall(parser.new, parser, nil))""",
    "LuaSocket's modules": """
        local url, ltn12, mime = require 'socket.url', require 'ltn12', require 'mime'
        local parsed = url.parse('https://me:pw@example.com:8443/a/b;x?q=1#f')
        assert(parsed.host == 'example.com' and parsed.port == '8443' and parsed.user == 'me' and parsed.params == 'x')
        assert(url.build(parsed) == 'https://me:pw@example.com:8443/a/b;x?q=1#f')
        assert(url.absolute('http://h/a/b?x=1', '../c?y=2') == 'http://h/c?y=2')
        assert(url.build_path(url.parse_path('/a/b')) == '/a/b')
        assert(url.absolute('http://h/a', '//other/z') == 'http://other/z')
        assert(url.unescape(url.escape('a b/')) == 'a b/')
        local taken = {} assert(ltn12.pump.all(ltn12.source.string(('x'):rep(5000)), (ltn12.sink.table(taken))))
        assert(#taken == 3 and #table.concat(taken) == 5000)
        local encoded = ltn12.source.chain(ltn12.source.table({'hel', 'lo'}), mime.encode('base64'))
        taken = {} ltn12.pump.all(encoded, (ltn12.sink.table(taken))) assert(table.concat(taken) == 'aGVsbG8=')
        assert(mime.unqp((mime.qp('a=b'))) == 'a=b' and math.abs(require('socket').gettime() - ngx.now()) < 1)
        local ok, err = require('socket').protect(function() require('socket').try(nil, 'lost') end)()
        assert(ok == nil and err == 'lost')""",
    "addresses in their binary form": """
        local matcher = require('resty.ipmatcher').new({'127.0.0.0/8', '::1'})
        assert(matcher:match_bin(string.char(127, 0, 0, 9)) and not matcher:match_bin(string.char(10, 0, 0, 1)))
        assert(matcher:match_bin(('\\0'):rep(15) .. '\\1') and not matcher:match('x'))
        assert(select(2, require('resty.ipmatcher').new({'x'})):find('invalid ip address: x', 1, true))
        local named = require('resty.ipmatcher')
        named = named.new_with_value({['10.0.0.0/8'] = 'wide', ['10.1.0.0/16'] = 'narrow'})
        assert(named:match('10.1.2.3') == 'narrow' and named:match('10.2.2.3') == 'wide')
        assert(not named:match('1.1.1.1'))""",
    "kong.tools of Kong 3": """
        local http, mime = require 'kong.tools.http', require 'kong.tools.mime_type'
        local found = http.parse_directive_header('no-store, max-age=60, x=y')
        assert(found['no-store'] == true and found['max-age'] == 60 and found.x == 'y')
        assert(http.calculate_resource_ttl(found) == 60 and http.validate_header_name('x-y') == 'x-y')
        assert(select(2, http.validate_header_name('x y')):find('bad header name'))
        local kind, subtype, parameters = mime.parse_mime_type('Application/JSON; Charset=UTF-8')
        assert(kind == 'application' and subtype == 'json' and parameters.charset == 'utf-8')
        assert(mime.includes({type = 'a', subtype = '*'}, {type = 'a', subtype = 'b'}))
        assert(not mime.includes({type = 'a', subtype = 'c'}, {type = 'a', subtype = 'b'}))
        local module = require 'kong.tools.module'
        assert(module.load_module_if_exists('cjson') and module.load_module_if_exists('no.such') == false)
        assert(_KONG._NAME == 'kong' and require('kong.workspaces').get_workspace().name == 'default')
        assert(require('kong.tools.redis.schema').config_schema.type == 'record')
        assert(require('lua_system_constants').O_APPEND() == 1024)
        assert(require('kong.reports').retrieve_redis_version() == nil)""",
    "headers of limits that wait for a later phase": """
        local limits, ctx = require 'kong.pdk.private.rate_limiting', {}
        limits.store_response_header(ctx, 'X-Left', 3)
        assert(limits.get_stored_response_header(ctx, 'X-Left') == 3 and not limits.get_stored_response_header({}, 'X'))
        assert(select(2, pcall(limits.store_response_header, ctx, 1, 2)):find('must be a string, got number'))""",
    "code of a configuration": """
        local sandbox = require('kong.tools.sandbox')
        assert(sandbox.sandbox('return 1 + 1')() == 2 and sandbox.validate('return 1'))
        assert(sandbox.sandbox('return {a = {1}}')().a[1] == 1)
        assert(sandbox.configuration.enabled and sandbox.configuration.environment.string.upper('a') == 'A')
        local ok, err = sandbox.validate('return +') assert(ok == nil and err:find('Error parsing function'))
        assert(not pcall(sandbox.sandbox("return require('ffi')")))""",
    "what a request has logged is not kept back": """
        local ok, err = require('ngx.errlog').get_logs()
        assert(ok == nil and err == 'directive "lua_capture_error_log" is not set')""",
    "gzip from a function to a function": """
        local zlib, out = require 'ffi-zlib', {}
        local function from(text) return function() local now = text text = nil return now end end
        assert(zlib.deflateGzip(from('hello'), function(piece) out[#out + 1] = piece end))
        local back assert(zlib.inflateGzip(from(table.concat(out)), function(piece) back = piece end))
        assert(back == 'hello')""",
    "penlight's templates, classes and lists": """
        local template, class, List = require 'pl.template', require 'pl.class', require 'pl.List'
        local made = template.compile('Hi $(name)!\\n# for i = 1, n do\\n<$(i)>\\n# end\\nbye', {})
        assert(made:render({name = 'me', n = 2}) == 'Hi me!\\n<1>\\n<2>\\nbye')
        assert(made:render({n = 0}, {name = 'you'}) == nil or true)
        assert(template.substitute('$(a)$(b)', {a = 1, _parent = {b = 2}}) == '12')
        assert(template.compile('# if', {}) == nil and template.compile('$(x.y)', {}):render({}) == nil)
        local A = class() function A:_init(x) self.x = x end function A:get() return self.x end
        local B = class(A) function B:_init(x, y) self:super(x) self.y = y end
        local b = B(1, 2) assert(b:get() == 1 and b.y == 2 and b:is_a(A) and not A(1):is_a(B) and A:class_of(b))
        local list = List({3, 1, 2}):sort() assert(list:join(',') == '1,2,3' and list:slice(2):len() == 2)
        assert(list:map(function(x) return x * 2 end):reduce(function(a, b) return a + b end) == 12)
        assert(list:contains(2) and list:index(3) == 3 and List({1}) == List({1}))
        local url = require 'pl.url' assert(url.quote('a b/c') == 'a%20b/c' and url.unquote('a+b%2F') == 'a b/')""",
    "bodies in parts": """
        local multipart = require 'multipart'
        local text = table.concat({'--x', 'Content-Disposition: form-data; name="a"', '', 'one', '--x',
          'Content-Disposition: form-data; name="f"; filename="t.txt"', 'Content-Type: text/plain', '', 'two', '--x--',
          ''}, '\\r\\n')
        local body = multipart(text, 'multipart/form-data; boundary=x')
        assert(body:get('a').value == 'one' and body:get('f').headers[2] == 'Content-Type: text/plain')
        assert(body:tostring() == text)
        body:set_simple('a', 'new') body:delete('f') body:set_simple('b', 'more')
        assert(multipart(body:tostring(), 'multipart/form-data; boundary="x"'):get_all().b == 'more')
        assert(body:get_all().a == 'new' and not body:get('f') and multipart('', 'text/plain'):get('a') == nil)""",
    "resty.aes has OpenSSL's keys of passwords": """
        local aes, hex = require 'resty.aes', require('resty.string').to_hex
        local one = aes:new('secret')
        assert(one:decrypt(one:encrypt('hello')) == 'hello')
        assert(hex(one:encrypt('hello')) == '7b47a4dbb11e2cddb2f3740c9e3a552b') -- openssl enc -aes-128-cbc -md md5
        local key = ('k'):rep(32)
        local two = aes:new(key, nil, aes.cipher(256, 'cbc'), {iv = ('i'):rep(16)})
        assert(two:decrypt(two:encrypt('x')) == 'x' and aes.cipher(100, 'cbc') == nil)
        assert(select(2, aes:new('short', nil, aes.cipher(256, 'cbc'), {iv = 'i'})) == 'bad key length')""",
    "checks of claims": """
        local jwt, checks = require 'resty.jwt', require 'resty.jwt-validators'
        local payload = {iss = 'me', exp = ngx.time() - 5, roles = {'a'}}
        local token = jwt:sign('s', {header = {alg = 'HS256'}, payload = payload})
        local function checked(spec) return jwt:verify('s', token, spec) end
        assert(checked({exp = checks.is_not_expired()}).reason:find('expired'))
        checks.set_system_leeway(60)
        local found = checked({exp = checks.is_not_expired(), iss = checks.equals('me'),
          nbf = checks.opt_is_not_before()})
        assert(found.verified, found.reason)
        checks.set_system_leeway(0)
        assert(checked({lifetime_grace_period = 60, sub = checks.required()}).reason == "'sub' claim is required.")
        assert(not checked({iss = checks.equals_any_of({'x', 'y'})}).verified)
        assert(checked({lifetime_grace_period = 60, roles = checks.contains_any_of({'a'})}).verified)
        assert(checked({lifetime_grace_period = 60, valid_issuers = {'you'}}).reason:find('valid issuers'))
        assert(checked({lifetime_grace_period = 60, require_nbf_claim = true}).reason == "'nbf' claim is required.")""",
    "what is not there says so": """
        local ok, err = pcall(ngx.location.capture, '/x') assert(not ok and err:find('not supported'))
        ok, err = pcall(function() return kong.db.connector end) assert(not ok and err:find('not available'))
        ok, err = pcall(os.exit, 0) assert(not ok)""",
}


@pytest.mark.parametrize("module", [name for name in MODULES if name not in MADE_ONCE])
def test_a_module_loads(module: str) -> None:
    assert vm().require(module) is not None


@pytest.mark.parametrize("source", FACTS.values(), ids=FACTS.keys())
def test_library(source: str) -> None:
    vm().compile(source, "@facts.lua")()


def test_a_module_that_is_not_there_tells_where_it_was_looked_for() -> None:
    with pytest.raises(Exception, match=r"module 'no.such.module' not found"):
        vm().require("no.such.module")


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("kong.plugins.base_plugin", "a handler is a plain table"),
        ("kong.tools.batch_queue", "kong.tools.queue"),
        ("kong.openid-connect.jwt", "enterprise edition"),
        ("lfs", "native library"),
    ],
)
def test_a_module_that_there_cannot_be_says_what_there_is_instead(module: str, text: str) -> None:
    with pytest.raises(Exception, match=text) as raised:
        vm().require(module)
    assert "no file" not in str(raised.value)


def test_a_whole_penlight_on_the_path_takes_the_place_of_the_part_here(tmp_path: Path) -> None:
    (tmp_path / "pl").mkdir()
    (tmp_path / "pl" / "compat.lua").write_text("return {}")
    (tmp_path / "pl" / "stringx.lua").write_text("return { mine = true }")
    before = node.configuration.get("lua_package_path")
    node.configuration["lua_package_path"] = f"{tmp_path}/?.lua"
    vm().forget("pl")
    try:
        assert vm().require("pl.stringx")["mine"]
        assert not vm().is_own("pl.stringx")
        assert vm().is_own("pl.path")
        assert vm().is_own("pl.file")
    finally:
        vm().forget("pl")
        node.configuration["lua_package_path"] = before
    assert vm().is_own("pl.stringx")


def test_bytes_that_are_no_text_pass_unchanged() -> None:
    raw = bytes(range(256))
    vm().globals["raw"] = raw
    assert vm().compile("local t = raw raw = nil return t", "@x")().encode("latin-1") == raw


def test_no_library_file_is_shadowed_by_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cjson.lua").write_text("error('the wrong file')")
    monkeypatch.chdir(tmp_path)
    vm().globals["package"]["loaded"]["cjson"] = None
    assert vm().require("cjson") is not None
