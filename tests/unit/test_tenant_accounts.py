"""Tenants' own accounts with third parties: whose money, and never anybody else's."""

from __future__ import annotations

import asyncio
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic import ValidationError

from ballast.environs import by_part
from models import prices
from models.capacity import PROFILES
from models.provider import FOLDER, load
from models.tokens import TokenRatio
from serving.admission import Admission
from serving.backends.provider import ProviderBackend
from serving.budgets.funds import Funds
from serving.budgets.settings import BudgetSettings
from serving.budgets.values import Budget
from serving.demand import Demand
from serving.errors import Kind, OwnError
from serving.finance.summary import Facts, summary
from serving.health import Health
from serving.ledger.costs import Answer, Cost, Money
from serving.logs import RequestLog
from serving.metrics import Metrics
from serving.observer import Observer
from serving.offerings import accounts, offerings, rows
from serving.placement.score import SPENT_SHARE, spent_share
from serving.placement.tally import Tally
from serving.placement.values import Ceilings, Route
from serving.progress import Progress
from serving.records import (
    Burst,
    Charge,
    DataLabel,
    Outcome,
    Overflow,
    Refuse,
    Residency,
    ResidencyLevel,
    Stops,
    Usage,
)
from serving.routing import place
from serving.rows import AttemptEnd
from serving.settings import Settings, SettingsError
from serving.tenant_accounts import registered, theirs

ENV = {"OPENAI_API_KEY": "sk-ours", "ACME_KEY": "sk-acme", "BETA_KEY": "sk-beta"}
ACME = {"id": "acme", "provider": "openai", "tenant": "acme", "api_key_env": "ACME_KEY"}
MODE = Overflow


def configured(*given, models=(), env=None, **more):
    tree = {"models": models, "providers": [{"id": "openai"}], "tenant_accounts": given, **more}
    found = Settings.model_validate(tree)
    known = ENV if env is None else env
    return found, registered(found, accounts(found, ENV), known)


# -- how one is registered


def test_a_tenant_s_key_comes_from_where_its_account_says_and_stands_nowhere_else(tmp_path):
    file = tmp_path / "key"
    file.write_text("sk-file\n")
    rest = {k: v for k, v in ACME.items() if k != "api_key_env"}
    for given_, key in ((ACME, "sk-acme"), ({**rest, "api_key_file": file}, "sk-file")):
        found, bought = configured(given_)
        account = bought["openai@acme"]
        assert (account.api_key, account.tenant, account.paid_by) == (key, "acme", "tenant")
        assert key not in repr(account)
        assert key not in found.model_dump_json()


WRONG = {
    "no key": ({"api_key_env": None}, ENV, "name api_key_env or api_key_file"),
    "two keys": ({"api_key_file": "/k"}, ENV, "name api_key_env or api_key_file"),
    "an unset variable": ({}, {"OPENAI_API_KEY": "sk-ours"}, "set ACME_KEY"),
    "our variable": ({"api_key_env": "OPENAI_API_KEY"}, ENV, "its key is that of openai"),
    "our key": ({}, {"ACME_KEY": "sk-ours"}, "its key is that of openai"),
    "no such row": ({"provider": "opnai"}, ENV, "no row 'opnai'"),
    "no such model": ({"models": {"nope": {}}}, ENV, "not sold: nope"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_account_that_is_not_certainly_the_tenant_s_refuses_to_start(name):
    changes, env, words = WRONG[name]
    with pytest.raises((SettingsError, ValidationError), match=words):
        configured({**ACME, **changes}, env=env)


def test_two_tenants_cannot_have_one_key_and_an_account_is_given_once():
    beta = {"id": "beta", "provider": "openai", "tenant": "beta", "api_key_env": "ACME_KEY"}
    with pytest.raises(SettingsError, match=r"beta: its key is that of openai@acme"):
        configured(ACME, beta)
    with pytest.raises(SettingsError, match="given twice"):
        configured(ACME, ACME)


def test_its_offerings_are_those_of_the_models_under_names_of_their_own():
    sold = rows(Settings())["openai"].models[0].id
    adapters = [
        {"name": "told", "elsewhere": "base", "prompt": "Be brief."},
        {"name": "tuned", "elsewhere": "tune", "tune": f"openai/{sold}"},
    ]
    models = [
        {"name": "m", "offerings": [f"openai/{sold}"], "adapters": adapters}, {"name": "n"},
    ]  # fmt: skip
    found, bought = configured({**ACME, "keys": ["k1"]}, models=models)
    own = theirs(found, bought)
    assert own.keys() == {"acme"}
    assert own["acme"].keys() == {"m", "told"}, "a tuning is known to our account alone"
    (one,) = own["acme"]["m"]
    assert (one.id, one.provider, one.account_id) == (
        f"openai@acme/{sold}", "openai", "openai@acme",
    )  # fmt: skip
    assert (one.owner, one.keys, one.price.money_kind) == ("acme", frozenset({"k1"}), "tenant")
    assert one.label == DataLabel("us", "OpenAI")
    assert spent_share(one.price) == 1.0
    assert spent_share(replace(one.price, money_kind="credit")) == SPENT_SHARE


def test_a_vendor_where_only_a_tenant_has_an_account_is_sold_to_it_alone():
    row = rows(Settings())["openai"]
    text = f"openai/{row.models[0].id}"
    tree = {"models": [{"name": "m", "offerings": [text]}], "tenant_accounts": [ACME]}
    found = Settings.model_validate(tree)
    assert offerings(found, accounts(found, {})) == {"m": ()}
    own_sold = theirs(found, registered(found, {}, ENV))
    assert [one.owner for one in own_sold["acme"]["m"]] == ["acme"]


# -- who may use it


def own(make, tenant="acme", keys=None, **more):
    name = f"api@{tenant}"
    return make.offering(f"{name}/big", owner=tenant, account=name, keys=keys, **more)


def house(make, *sold, ours=True, **more):
    owned = {row.owner: {"m": tuple(r for r in sold if r.owner == row.owner)} for row in sold}
    return make.view([], [make.offering()] if ours else [], theirs=owned, **more)


def went(make, view, mode, now_s=0.0, **changes):
    found = place(make.call(), replace(make.caller(overflow=mode), **changes), view, now_s)
    return found.target.id if isinstance(found, Burst) else found


@pytest.mark.parametrize(
    ("mode", "target"),
    [(MODE.ALLOWED, "api/big"), (MODE.OWN_KEYS, "api@acme/big"),
     (MODE.OWN_KEYS_FIRST, "api@acme/big")],
)  # fmt: skip
def test_the_key_s_mode_says_whose_account_it_is(make, mode, target):
    dear = own(make, price=replace(make.price, output_micro_per_mtok=10**9), first_token_s=9.0)
    assert went(make, house(make, own(make), own(make, "beta")), mode) == target
    assert went(make, house(make, dear), mode) == target, "neither dearer nor slower changes it"


def test_without_an_account_of_its_own_a_key_is_refused_in_words(make):
    for view in (house(make, own(make, "beta")), house(make)):
        found = went(make, view, MODE.OWN_KEYS)
        assert isinstance(found, Refuse)
        assert "no account of its own there that the caller may use" in found.message


def test_an_account_of_some_keys_serves_those(make):
    view = house(make, own(make, keys=frozenset({"key"})))
    assert went(make, view, MODE.OWN_KEYS) == "api@acme/big"
    assert isinstance(went(make, view, MODE.OWN_KEYS, key_id="another"), Refuse)
    assert went(make, view, MODE.OWN_KEYS) == "api@acme/big", "whoever asked in between"


def test_only_the_mode_that_says_so_falls_back_to_our_account(make):
    admission = Admission()
    admission.know("api@acme/big").open_until_s = 9.0
    view = house(make, own(make), state=admission.state)
    assert isinstance(went(make, view, MODE.OWN_KEYS), Refuse)
    assert went(make, view, MODE.OWN_KEYS_FIRST) == "api/big"


def test_a_customer_of_a_forwarder_has_accounts_of_its_own_name_only(make):
    view = house(make, own(make, "acme"), own(make, "acme/one"))
    call = make.call(tenant="acme/one")
    caller = replace(make.caller(overflow=MODE.OWN_KEYS), tenant="acme/one")
    assert place(call, caller, view, 0.0).target.id == "api@acme/one/big"
    stranger = replace(caller, tenant="acme/two")
    assert isinstance(place(make.call(tenant="acme/two"), stranger, view, 0.0), Refuse)


def test_hard_rules_hold_for_a_tenant_s_account_as_for_ours(make):
    view = house(make, own(make))
    mainland = Residency(ResidencyLevel.MAINLAND)
    caller = make.caller(mainland, overflow=MODE.OWN_KEYS)
    assert isinstance(place(make.call(), caller, view, 0.0), Refuse)
    stopped = house(make, own(make), stops=Stops(providers=frozenset({"api"})))
    assert isinstance(went(make, stopped, MODE.OWN_KEYS), Refuse), "by its vendor's name"
    never = replace(caller, policy=replace(caller.policy, is_load_test=True))
    assert isinstance(place(make.call(), never, house(make, own(make)), 0.0), Refuse)


def test_our_ceiling_does_not_bound_a_tenant_s_money(make):
    tally, route = Tally(), Route(ceilings=Ceilings(hour_micro=1))
    tally.ended("m", 10, 5, 0)
    view = house(make, own(make), tally=tally, routes={"m": route})
    assert isinstance(went(make, view, MODE.ALLOWED), Refuse)
    assert went(make, view, MODE.OWN_KEYS) == "api@acme/big"
    shut = Admission()
    shut.know("api@acme/big").open_until_s = 9.0
    view = replace(view, state=shut.state, sifted={})
    assert isinstance(went(make, view, MODE.OWN_KEYS_FIRST), Refuse)


tenants = st.sampled_from(["acme", "beta", "acme/one"])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_history_ever_spends_somebody_else_s_account(make, data):
    """Keys of several tenants and modes ask one view by turns, while targets fail and come back."""
    draw = data.draw
    some = st.none() | st.frozensets(st.sampled_from(["k1", "k2"]), max_size=2)
    sold = [own(make, tenant, draw(some)) for tenant in ("acme", "beta", "acme/one")]
    admission = Admission()
    view = house(make, *sold, state=admission.state)
    for _ in range(draw(st.integers(1, 12))):
        tenant, mode, key = (
            draw(tenants),
            draw(st.sampled_from(MODE)),
            draw(st.sampled_from(["k1", "k2"])),
        )
        shut = draw(st.sampled_from(["api/big", *(row.id for row in sold)]))
        admission.know(shut).open_until_s = draw(st.sampled_from([0.0, 9.0]))
        caller = replace(make.caller(overflow=mode), tenant=tenant, key_id=key)
        call = make.call(tenant=tenant, toward=draw(st.sampled_from(["", *(r.id for r in sold)])))
        placement = place(call, caller, view, 1.0)
        if not isinstance(placement, Burst):
            continue
        target = placement.target
        if target.owner:
            assert mode in (MODE.OWN_KEYS, MODE.OWN_KEYS_FIRST)
            assert target.owner == tenant
            assert target.keys is None or key in target.keys
        else:
            assert mode in (MODE.ALLOWED, MODE.OWN_KEYS_FIRST)


def test_the_backend_sends_no_other_tenant_s_call_whoever_placed_it(make):
    _, bought = configured(ACME)
    target = make.offering(owner="acme", account="openai@acme")
    backend = ProviderBackend(bought, "here")
    with pytest.raises(OwnError, match="account of another tenant"):
        backend.stream(make.call(tenant="beta"), target, make.ticket(target), 9.0)
    with pytest.raises(OwnError, match="account of another tenant"):
        backend.stream(make.call(), replace(target, owner=""), make.ticket(target), 9.0)
    asyncio.run(backend.close())


# -- whose money it is


def budget(name, **more):
    values = {"id": name, "period": "day", "currency": "USD", "limit_micro": 1, "created_by": "t",
              "created_ms": 0}  # fmt: skip
    return Budget.model_validate(values | more)


@pytest.mark.parametrize(
    ("scope", "closed"),
    [({}, {"api/big"}), ({"provider": "api"}, {"api/big"}),
     ({"tenant": "acme"}, {"api/big", "api@acme/big"}), ({"tenant": "beta"}, set())],
    ids=["of all", "of a provider", "of the tenant", "of another tenant"],
)  # fmt: skip
def test_only_a_tenant_s_own_budgets_count_what_its_account_pays(make, scope, closed):
    funds = Funds(BudgetSettings(), {"m": 8192}, lambda: 1_800_000_000_000)
    funds.take({"b": budget("b", **scope)})
    call, caller = make.call(), make.caller(overflow=MODE.OWN_KEYS_FIRST)
    funding = funds.look(call, caller)
    bound = call if funding is None else funds.bound(call, funding, house(make, own(make)))
    assert bound.unaffordable == closed


def test_one_dead_account_says_nothing_of_the_other(make):
    admission, one, ours = Admission(), own(make), make.offering()
    other = replace(one, id="api@acme/small", upstream_model="small")
    view = make.view([], [ours], theirs={"acme": {"m": (one, other)}})
    health, call = Health(admission, lambda: view), make.call()
    ticket = admission.issue(call, Burst(one, "t"), 1, 0.0)
    health.sent(ticket)
    admission.failed(ticket, Kind.ACCOUNT_DEAD, None, 1.0)
    health.failed(ticket, Kind.ACCOUNT_DEAD, 1.0)
    assert admission.know(other.id).open_until_s > 1.0
    assert admission.know(ours.id).open_until_s == 0.0


def test_what_a_tenant_s_account_paid_is_neither_our_cash_nor_a_grant():
    money = (Money("USD", "cash", 5), Money("USD", "credit", 3), Money("USD", "tenant", 70))
    cost = Cost(("shop", "m", "api"), money, 1, 0, 10, 10, 0, 0, 0, 0, 1, 0, 10, 10)
    facts = Facts(Answer((cost,), False), [], [], {})
    found = summary(facts, "USD", prices.load().rate(date(2026, 11, 1)))
    (share,) = found.features
    assert (found.cash_micro, found.granted_micro, share.tenant_micro) == (5, 3, 70)
    assert share.micro == 5


@pytest.mark.parametrize(("owner", "is_counted"), [("", True), ("acme", False)])
def test_no_ceiling_counts_what_a_tenant_s_account_answered(make, owner, is_counted):
    ratios = {"m": TokenRatio()}
    metrics, demand = Metrics(lambda: ()), Demand({"m": PROFILES["instant"]})
    observer = Observer(metrics, RequestLog(), ratios, demand, Admission())
    told = []
    observer.tally = tally = Tally()
    tally.share({"m": ("m", Ceilings(hour_micro=9, name="m"))}, Meter.made(told), lambda: 0.0)
    progress = Progress(make.call(model="m"), make.caller())
    end = AttemptEnd("r", 1, 5, Outcome.OK, "", Usage(1000, 1000), Charge("USD", 70), 1)
    account = "openai@acme" if owner else ""
    for target in (make.offering(exchange=1.0),
                   make.offering(exchange=1.0, owner=owner, account=account)):  # fmt: skip
        progress.begin(make.ticket(target), Burst(target, "t"))
        observer.attempt(progress, end)
    assert told == ([70, 70] if is_counted else [70])
    _, used = tally.reached("m", Ceilings(hour_micro=700), 1, 5)
    assert used == pytest.approx((sum(told) + 70) / 700)  # the next is expected to cost 70 too


class Meter:
    """Writes down what is taken."""

    def __init__(self, told, limit):
        self.told, self.limit = told, limit

    @classmethod
    def made(cls, told):
        return lambda _key, limit, _s: cls(told, limit)

    def take(self, units, _now_s):
        self.told.append(units)
        return 0

    def has(self, _units, _now_s):
        return True

    def left(self, _now_s):
        return float(self.limit)


def test_only_the_gateway_inherits_a_tenant_s_key():
    found, _ = configured(ACME)
    environs = by_part(ENV, found, load(FOLDER))
    assert environs["gateway"]["ACME_KEY"] == "sk-acme"
    assert not any("ACME_KEY" in environs[part] for part in ("engine", "controller"))


def in_files(tmp_path):
    """A file each for us and two tenants, and the key that an account sends at a time."""
    files = {name: tmp_path / name for name in ("ours", "acme", "beta")}
    for name, path in files.items():
        path.write_text(f"sk-{name}\n")
    rows_ = [
        {"id": name, "provider": "openai", "tenant": name, "api_key_file": str(files[name])}
        for name in ("acme", "beta")
    ]
    tree = {"providers": [{"id": "openai", "api_key_file": str(files["ours"])}],
            "tenant_accounts": rows_}  # fmt: skip
    given_settings = Settings.model_validate(tree)
    bought = accounts(given_settings, {})
    all_of_them = {**bought, **registered(given_settings, bought, {})}

    def shown(name, now_s):
        return all_of_them[name].headers(now_s)["authorization"]

    return files, shown


def test_one_new_key_in_the_files_of_two_goes_to_neither_until_they_differ(tmp_path, caplog):
    files, shown = in_files(tmp_path)
    for name in ("acme", "beta"):
        files[name].write_text("sk-new")
    for now_s in (10.0, 20.0):
        assert shown("openai@acme", now_s) == "Bearer sk-acme"
        assert shown("openai@beta", now_s) == "Bearer sk-beta"
    files["acme"].write_text("sk-newer")
    assert shown("openai@beta", 30.0) == "Bearer sk-new"
    files["beta"].unlink()
    assert shown("openai@acme", 30.0) == "Bearer sk-newer", "a file that is gone claims nothing"
    assert "it holds the key of another's account" in caplog.records[0].reason


def test_a_file_that_is_changed_to_another_s_key_keeps_its_own(tmp_path, caplog):
    files, shown = in_files(tmp_path)
    for now_s, name, key, expected in (
        (10.0, "openai@acme", "sk-ours", "Bearer sk-acme"),
        (20.0, "openai@acme", "sk-beta", "Bearer sk-acme"),
        (30.0, "openai", "sk-acme", "Bearer sk-ours"),
        (40.0, "openai@acme", "sk-acme-2", "Bearer sk-acme-2"),
        (50.0, "openai@beta", "sk-acme-2", "Bearer sk-beta"),
    ):
        files[{"openai": "ours"}.get(name, name[7:])].write_text(key)
        assert shown(name, now_s) == expected
    told = [record.reason for record in caplog.records if record.message == "key_file_lost"]
    assert set(told) == {"it holds the key of another's account"}
    assert "sk-" not in caplog.text
