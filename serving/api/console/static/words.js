// All words of the page, in both languages; a test holds them against each other and the code.

export const WORDS = {
  en: {
    language: "中文", theme: "Theme", leave: "Sign out",
    fleet: "Fleet", decisions: "Decisions", money: "Money", providers: "Providers",
    switches: "Kill switches", playground: "Playground",
    login_title: "Sign in", login_about: "With an administrator's key (ba-…) or a token of your identity provider. It stays in this tab and is gone when you close it.",
    login_key: "Key or token", login_go: "Sign in", signed_in: "Signed in as",
    away: "The gateway does not answer; the figures below are old.", refused: "Refused",
    no_right: "Your role does not show this.",
    replicas: "engines", running: "running", queued: "waiting", oldest: "oldest wait",
    burst: "sent to APIs", shed: "refused", expected: "expected in", trouble: "Does not start",
    none_ready: "no engine", api_only: "APIs carry it", own: "own",
    chart: "Running and waiting calls over the last minutes",
    target: "Target", label: "Jurisdiction", under_way: "Under way", breaker: "Breaker",
    kv: "KV memory", price_in: "In / M tokens", price_out: "Out / M tokens", drift: "Answers drift",
    closed: "closed", open: "open", half: "half-open", yes: "yes", no: "no",
    at: "Time", model: "Model", tenant: "Tenant", outcome: "Outcome", reason: "Reason",
    queue: "Queue", first: "First token", whole: "Whole", tokens: "Tokens",
    requests_title: "Latest requests", control_title: "Controller's latest decisions",
    no_decisions: "Nothing yet.", control_away: "The controller does not answer:",
    decision: "Decision", wanted: "Wanted",
    spent: "Spent on APIs", granted: "Paid by credits", gpus: "GPUs rented", idle: "of which idle",
    saving: "Saved against APIs only", share: "Self-hosted, by tokens", since: "Since the first of the month",
    feature: "Feature", requests: "Requests", cost: "Cost", per_mtok: "Per M tokens",
    by_feature: "By feature", by_model: "By model and tier", budgets: "Budgets",
    budget: "Budget", scope: "Of", period: "Period", limit: "Limit", used: "Spent", no_budgets: "No budgets are set.",
    no_costs: "No requests in this period.",
    throw_title: "Stop new work", throw_about: "Takes effect on every gateway within a second. Running answers end.",
    scope_all: "everything", scope_model: "model", scope_tenant: "tenant", scope_provider: "provider", scope_jurisdiction: "jurisdiction",
    value: "Which", why: "Why", throw: "Stop it", take_back: "Let it flow again", thrown: "Stopped now", none_thrown: "Nothing is stopped.",
    by: "By", sure: "Stop {} for everybody?", ask_title: "Same question, two places",
    ask_about: "Goes through the public listener with your own API key: rules, budgets and records hold as for any call. Naming a target needs a measuring key (is_canary).",
    api_key: "API key", prompt: "Question", left: "Left", right: "Right", anywhere: "wherever it goes",
    max_tokens: "Longest answer", ask: "Ask both", answering: "answering…", first_in: "first token", done_in: "whole answer",
    costs_about: "costs", owned: "own GPU", served_by: "by",
    scorecard: "This month, promised and measured", no_scores: "Nothing is summed up yet.", tries: "Calls",
    refusals: "Refused", faults: "Faults", down_minutes: "Minutes down", measured: "Measured",
    promised: "Promised", unknown: "unknown", few: "too few calls to judge",
    votes: "Votes", vote: "Vote", evaluation: "Evaluation", set: "Questions of", questions: "Questions",
    votes_about: "Two answers to one question, without names and with sides by lot. Say which you would rather have had.",
    no_vote: "Reviewers vote; your role shows what there is.", no_evaluations: "No evaluation yet: ballast evaluate run.",
    left_better: "Left is better", right_better: "Right is better", equal: "Equally good", both_bad: "Both bad",
    all_voted: "You have voted on every pair", preferred: "prefer the candidate, of the decided", voters: "people",
    few_votes: "Too few decided votes to say.", arm: "Arm", won: "Won", passed: "Passed", answered: "Answered",
  },
  zh: {
    language: "English", theme: "明暗", leave: "退出",
    fleet: "机群", decisions: "决策", money: "费用", providers: "供应商",
    switches: "总开关", playground: "试验台",
    login_title: "登录", login_about: "使用管理员密钥（ba-…）或身份系统的令牌。只保存在本标签页，关闭即失效。",
    login_key: "密钥或令牌", login_go: "登录", signed_in: "当前身份",
    away: "网关没有响应，下面是旧数据。", refused: "被拒绝",
    no_right: "您的角色看不到这一页。",
    replicas: "引擎", running: "运行中", queued: "排队", oldest: "最长等待",
    burst: "转到 API", shed: "拒绝", expected: "预计就绪", trouble: "启动失败",
    none_ready: "没有引擎", api_only: "由 API 承担", own: "自有",
    chart: "最近几分钟运行与排队的请求",
    target: "目标", label: "法域", under_way: "进行中", breaker: "熔断",
    kv: "KV 显存", price_in: "输入 / 百万词元", price_out: "输出 / 百万词元", drift: "回答漂移",
    closed: "关闭", open: "断开", half: "半开", yes: "是", no: "否",
    at: "时间", model: "模型", tenant: "租户", outcome: "结果", reason: "原因",
    queue: "排队", first: "首词元", whole: "全程", tokens: "词元",
    requests_title: "最近的请求", control_title: "控制器最近的决策",
    no_decisions: "暂无。", control_away: "控制器没有响应：",
    decision: "决策", wanted: "期望",
    spent: "API 支出", granted: "赠金抵扣", gpus: "GPU 租金", idle: "其中空闲",
    saving: "比纯 API 节省", share: "自有占比（词元）", since: "本月 1 日以来",
    feature: "功能", requests: "请求", cost: "费用", per_mtok: "每百万词元",
    by_feature: "按功能", by_model: "按模型与去向", budgets: "预算",
    budget: "预算", scope: "对象", period: "周期", limit: "上限", used: "已用", no_budgets: "没有设置预算。",
    no_costs: "这段时间没有请求。",
    throw_title: "停止新请求", throw_about: "一秒内在所有网关生效；进行中的回答会完成。",
    scope_all: "全部", scope_model: "模型", scope_tenant: "租户", scope_provider: "供应商", scope_jurisdiction: "法域",
    value: "哪一个", why: "原因", throw: "停止", take_back: "恢复", thrown: "当前已停止", none_thrown: "没有停止任何东西。",
    by: "操作人", sure: "确定对所有人停止 {} 吗？", ask_title: "同一个问题，两个去处",
    ask_about: "用您自己的 API 密钥经公共端口发出：规则、预算和记录与普通请求相同。指定去处需要测量密钥（is_canary）。",
    api_key: "API 密钥", prompt: "问题", left: "左边", right: "右边", anywhere: "由网关决定",
    max_tokens: "最长回答", ask: "同时提问", answering: "回答中…", first_in: "首词元", done_in: "完整回答",
    costs_about: "费用", owned: "自有 GPU", served_by: "由",
    scorecard: "本月：承诺与实测", no_scores: "还没有合计。", tries: "调用",
    refusals: "被拒", faults: "故障", down_minutes: "不可用分钟", measured: "实测",
    promised: "承诺", unknown: "未知", few: "调用太少，不足以判断",
    votes: "投票", vote: "投票", evaluation: "评测", set: "题集", questions: "题数",
    votes_about: "同一问题的两个回答，不显示来源，左右随机。请选出您更愿意收到的一个。",
    no_vote: "由审核员投票；您的角色只能查看列表。", no_evaluations: "还没有评测：ballast evaluate run。",
    left_better: "左边更好", right_better: "右边更好", equal: "同样好", both_bad: "都不好",
    all_voted: "您已对每一对投票", preferred: "偏好候选者（在分出高下的票中）", voters: "投票人",
    few_votes: "分出高下的票太少，还不能下结论。", arm: "一方", won: "胜出", passed: "通过", answered: "有回答",
  },
};

const KEPT = "ballast-language";
let chosen = localStorage.getItem(KEPT) || (navigator.language.startsWith("zh") ? "zh" : "en");

export function t(word) {
  return WORDS[chosen][word] ?? word;
}

export function language() {
  return chosen;
}

export function switchLanguage() {
  chosen = chosen === "zh" ? "en" : "zh";
  localStorage.setItem(KEPT, chosen);
}
