"""The report's words, in English and Chinese."""

from __future__ import annotations

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
    "seconds": ("seconds", "秒"),
    "requests": ("requests/s", "请求/秒"),
    "sent": ("sent", "发送"),
    "good": ("good", "成功"),
    "under_way": ("under way", "在途"),
    "kind": ("kind", "类别"),
    "milliseconds": ("ms", "毫秒"),
    "share": ("share", "占比"),
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
    "not_sent": ("due and not sent", "应发未发"),
    "template": ("prompt tokens above what was planned, median", "输入词元超出计划的中位数"),
    "tokens_by": ("prompt lengths", "提示长度依据"),
    "goal": ("goal", "目标"),
    "held": ("holds", "达标"),
    "highest": ("highest rate within the goal, requests/s", "满足目标的最高速率，请求/秒"),
}


def word(key: str, language: Language) -> str:
    """One of them."""
    return WORDS[key][language == "zh"]
