"""The words of terminal and report, in English and Chinese. The catalogue of `ballast` lies above
this package, so these are a book of their own, held to the same rules by the same test."""

from __future__ import annotations

import os
from typing import Final, Literal, TypeAlias

Language: TypeAlias = Literal["en", "zh"]

WORDS: Final[dict[str, tuple[str, str]]] = {
    "report": ("Load test", "压测报告"),
    "valid": ("valid", "有效"),
    "invalid": ("INVALID", "无效"),
    "partial": ("PARTIAL: stopped before its end", "不完整：提前终止"),
    "why": ("Why this run is invalid", "本次结果无效的原因"),
    "per_s": ("good answers a second", "成功应答/秒"),
    "goodput": ("of requests within their goal", "满足目标的请求占比"),
    "visible": ("p95 to the first visible token", "首个可见词元 p95"),
    "failed": ("failed or unfinished", "失败或未完成"),
    "tokens_per_s": ("tokens a second", "输出词元/秒"),
    "cost": ("cost", "费用"),
    "overflow": ("of answers came from APIs", "应答来自 API"),
    "cached": ("of prompt tokens from the cache", "提示词元命中缓存"),
    "load": ("Load over time", "负载曲线"),
    "load_says": (
        (
            "Requests sent, answered and failed a second, by the second they were due; "
            "requests under way at the end of each stretch."
        ),
        "按应发时刻统计的每秒发送、成功、失败数；各时段末在途请求数。",
    ),
    "latency": ("First visible token over time", "首个可见词元时延曲线"),
    "latency_says": (
        "Median and p95; counted from when a request was due.",
        "中位数与 p95，自应发时刻起算。",
    ),
    "distribution": ("How long answers take", "时延分布"),
    "distribution_says": (
        "Share of good answers that were no slower.",
        "不慢于该时延的成功应答占比。",
    ),
    "figures": ("By kind of request", "分类结果"),
    "figures_says": (
        (
            "Milliseconds from when a request was due. First = any token; visible = what "
            "the reader sees; gap = between tokens; token = mean per token of a request."
        ),
        (
            "毫秒，自应发时刻起算。首词元含推理内容；可见为读者所见；间隔为相邻词元间；"
            "每词元为单请求均值。"
        ),
    ),
    "usage": ("Tokens and money by feature", "各功能的词元与费用"),
    "usage_says": (
        "As the server counted; averages are per good answer.",
        "以服务端计数为准；均值按成功应答计。",
    ),
    "faults": ("Failures", "失败"),
    "faults_says": ("By kind, with the words of one of them.", "按类型，各附一例。"),
    "machine": ("The sender itself", "压测端自身"),
    "machine_says": (
        "A sender that is late or busy measures itself.",
        "压测端迟发或过忙时，测得的是它自己。",
    ),
    "knee": ("Where it bends", "拐点"),
    "knee_says": (
        "Each point is one run; a rate holds when most of its runs do.",
        "每点为一次运行；多数运行达标即该速率可承受。",
    ),
    "within": ("Requests within their goal", "满足目标的请求"),
    "tried": ("Every run", "各次运行"),
    "seconds": ("seconds", "秒"),
    "requests": ("requests/s", "请求/秒"),
    "sent": ("sent", "发送"),
    "good": ("good", "成功"),
    "under_way": ("under way", "在途"),
    "kind": ("kind", "类别"),
    "milliseconds": ("ms", "毫秒"),
    "complete": ("complete", "完成"),
    "first_any": ("first token", "首词元"),
    "first_seen": ("first visible", "首个可见"),
    "gap": ("gap", "间隔"),
    "token": ("token", "每词元"),
    "feature": ("feature", "功能"),
    "mean_prompt": ("mean prompt", "平均输入"),
    "mean_completion": ("mean completion", "平均输出"),
    "reasoning": ("reasoning", "推理词元"),
    "count": ("count", "次数"),
    "example": ("example", "示例"),
    "what": ("what", "项目"),
    "value": ("value", "值"),
    "processes": ("processes", "进程数"),
    "cpu": ("CPU of the busiest, share of a core", "最忙进程 CPU（占单核）"),
    "late": ("lateness p50 / p99 / most, ms", "迟发 p50 / p99 / 最大，毫秒"),
    "connections": ("connections opened", "建立的连接数"),
    "not_sent": ("of the schedule, not sent", "计划内未发"),
    "template": ("prompt tokens above what was planned, median", "输入词元超出计划的中位数"),
    "tokens_by": ("prompt lengths", "提示长度依据"),
    "goal": ("goal", "目标"),
    "held": ("holds", "达标"),
    "why_nothing": ("nothing was sent after the warm-up", "预热之后没有发出请求"),
    "why_late": (
        (
            "the sender was late: p99 {p99} ms, at most {most} ms (limits {p99_limit} and "
            "{most_limit}): use more processes, a quieter machine or a lower rate"
        ),
        (
            "压测端迟发：p99 {p99} 毫秒，最大 {most} 毫秒（限 {p99_limit} 和 {most_limit}）："
            "增加进程、换空闲的机器或降低速率"
        ),
    ),
    "why_busy": (
        "a sending process used {share} of its core: use more --processes, or a lower rate",
        "有一个压测进程用了单核的 {share}：增加 --processes 或降低速率",
    ),
    "why_not_sent": (
        "{count} requests of the schedule were not sent",
        "计划中有 {count} 个请求没有发出",
    ),
    "why_dry": (
        "the closed loop ran out of requests before the time was over",
        "闭环在时间结束之前用完了请求",
    ),
    "why_few": (
        "only {count} answers: no percentile can be told from so few (at least {least})",
        "只有 {count} 个应答：太少，算不出百分位（至少 {least}）",
    ),
    "so_far": (
        (
            "sent {sent}  good {good}  failed {failed}  under way {under_way}  {rate}/s  "
            "{tokens} tokens  first token {first}  late {late} ms"
        ),
        (
            "发送 {sent}  成功 {good}  失败 {failed}  在途 {under_way}  {rate}/秒  "
            "{tokens} 词元  首词元 {first}  迟发 {late} 毫秒"
        ),
    ),
    "sender_says": (
        (
            "sender: {processes} processes, busiest {share} of a core, late p99 {p99} ms, at most "
            "{most} ms; {per_s} good/s"
        ),
        (
            "压测端：{processes} 个进程，最忙的占单核 {share}，迟发 p99 {p99} 毫秒，最大 {most} "
            "毫秒；成功 {per_s}/秒"
        ),
    ),
    "invalid_because": ("INVALID: {reason}", "无效：{reason}"),
    "in_goal": ("in goal", "满足目标"),
    "visible_3": ("visible p50/p95/p99 ms", "可见 p50/p95/p99 毫秒"),
    "token_2": ("token p50/p95 ms", "每词元 p50/p95 毫秒"),
    "complete_3": ("complete p50/p95/p99 ms", "完成 p50/p95/p99 毫秒"),
    "tokens_rate": ("tokens/s", "词元/秒"),
    "figure": ("figure", "指标"),
    "b_against_a": ("B against A", "B 对 A"),
    "interval": ("95 % interval", "95 % 区间"),
    "b_is": ("B is", "B"),
    "better": ("better", "更好"),
    "worse": ("worse", "更差"),
    "same": ("same", "无差别"),
    "unknown": ("unknown", "无法判断"),
    "too_short": ("run too short", "运行太短"),
    "span": ("{low} to {high}", "{low} 至 {high}"),
    "goodput_row": ("goodput", "满足目标占比"),
    "failed_row": ("failed", "失败"),
    "visible_row": ("first visible token", "首个可见词元"),
    "token_row": ("per token", "每词元"),
    "complete_row": ("complete", "完成"),
    "not_alike": ("not asked alike: {line}", "两次要求不同：{line}"),
    "side_invalid": ("{side} is invalid: {reason}", "{side} 无效：{reason}"),
    "side_partial": ("{side} is partial", "{side} 不完整"),
    "alike": ("Asked alike; both runs are valid.", "要求相同；两次都有效。"),
    "two_runs": ("{title}: two runs", "{title}：两次运行"),
    "two_lead": ("A: {a}. B: {b}.", "A：{a}。B：{b}。"),
    "blocks": ("Intervals: bootstrap over blocks of time.", "区间：按时间块的自助法。"),
    "results": ("results: {folder}", "结果：{folder}"),
    "run_at": ("{rate}/s, run {number}:", "{rate}/秒，第 {number} 次："),
    "stopped": ("stopped before its results", "在有结果之前停止"),
    "search_stopped": ("PARTIAL, the search was stopped: ", "不完整，搜索被停止："),
    "inexact": (
        "Prompt lengths are not exact; the difference is in the table of tokens.",
        "提示长度不精确；差值见词元表。",
    ),
    "billed": (
        (
            "Answers came from an API: this key is no load-test key, and the calls were billed. "
            "Make one with is_load_test (docs/load-testing.md)."
        ),
        "应答来自 API：这不是压测密钥，已计费。请用 is_load_test 建一个（docs/load-testing.md）。",
    ),
    "every": ("all", "合计"),
    "goals": ("Goals: {goals}", "目标：{goals}"),
    "cached_goal": (
        "{name}: of prompt tokens from the cache (goal {goal})",
        "{name}：提示词元命中缓存（目标 {goal}）",
    ),
    "cached_says": (
        "{name}: {share} of prompt tokens from the cache, goal {goal}",
        "{name}：{share} 的提示词元命中缓存，目标 {goal}",
    ),
    "error": ("error: {words}", "错误：{words}"),
    "usage_head": ("usage: ", "用法："),
    "arguments": ("arguments", "参数"),
    "flags": ("options", "选项"),
    "bad_flags": ("{prog}: error: {words}", "{prog}：命令行有误：{words}"),
    "highest": ("highest rate within the goal, requests/s", "满足目标的最高速率，请求/秒"),
}


def word(key: str, language: Language) -> str:
    """One of them."""
    return WORDS[key][language == "zh"]


def text(key: str, language: Language, **values: object) -> str:
    """One with its values filled in."""
    return word(key, language).format_map(values)


def spoken() -> Language:
    """What the terminal speaks: BALLAST_LANG, which `ballast bench` sets, else the locale's."""
    names = ("BALLAST_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
    said = next((os.environ[name] for name in names if os.environ.get(name)), "")
    return "zh" if said.lower().startswith("zh") else "en"
