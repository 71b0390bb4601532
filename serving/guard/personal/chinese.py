"""Chinese names and addresses, by rule: a name needs a word before it that announces one, an
address its parts in their order. Pure.

Names without such a word are not found; docs/guard.md says how often that happens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from serving.guard.personal.cues import words
from serving.guard.values import Kind, Personal

_SURNAMES = (
    "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨朱秦尤许何吕施张孔曹严华金魏陶姜戚谢邹喻柏窦章云苏潘葛"
    "奚范彭郎鲁韦昌马苗凤花方俞任袁柳鲍史唐费廉岑薛雷贺倪汤滕殷罗毕郝邬安常乐于时傅皮卞齐康"
    "伍余元卜顾孟平黄穆萧尹姚邵汪祁毛禹狄米贝明臧计伏成戴谈宋茅庞熊纪舒屈项祝董梁杜阮蓝闵席"
    "季麻强贾路娄危江童颜郭梅盛林刁钟徐邱骆高夏蔡田樊胡凌霍虞万支柯管卢莫房裘缪干解应宗丁宣"
    "邓郁单杭洪包诸左石崔吉龚程邢裴陆荣翁荀甄曲封芮储靳焦牧山谷车侯全班仰仲伊宫宁仇甘厉戎祖武"
    "符刘景詹束龙叶幸司黎溥印白怀蒲从鄂索咸赖卓蔺屠蒙池乔胥闻莘党翟谭贡姬申冉雍桑桂牛寿通边"
    "扈燕冀浦尚农温庄晏柴瞿阎连茹习艾鱼容向古易慎戈廖庾居衡步都耿满弘匡寇广东欧沃利越隆师巩"
    "聂晁勾敖融冷辛那简饶空曾沙养鞠须丰关蒯相查游竺权盖益桓公肖付代闫覃岳苟佟逯操商佘伯赏墨"
    "年仝楚涂郜招靖渠漆黑种么盘眭练原雒肇"
)
_COMPOUND = (
    "欧阳|司马|上官|诸葛|东方|皇甫|尉迟|公孙|慕容|令狐|长孙|宇文|司徒|司空|夏侯|轩辕|端木|"
    "南宫|独孤|西门|百里|呼延|东郭|闻人|拓跋|完颜|纳兰|叶赫")  # fmt: skip
NAME_CUES = (
    r"姓名|名字(?=[:：是叫])|我叫|名叫|叫做|本人(?=[\u4e00-\u9fff]{2,4}[,，])|联系人|收件人|收货人|"
    r"寄件人|发件人|紧急联系人|患者(?:姓名)?|病人|申请人|投保人|被保险人|受益人|持卡人|开户名|户名|"
    r"法定代表人|法人代表|负责人|经办人|委托人|被告人?|原告|当事人|借款人|出租人|承租人|甲方|乙方|"
    r"监护人|学生姓名|员工姓名|客户姓名|乘客|旅客|入住人|业主|房东|户主|签名|署名"
)
WEAK_CUES = r"客户|学生|员工|老师|同事|用户|家长|嫌疑人|司机"
"""Announce a name only with a colon behind."""
_KIN = (
    "老公|老婆|丈夫|妻子|爱人|女儿|儿子|爸爸|妈妈|父亲|母亲|爷爷|奶奶|外公|外婆|公公|婆婆|岳父|岳母|"
    "男朋友|女朋友|男友|女友|朋友|闺蜜|室友|同事|同学|邻居|老板|领导|班主任|哥哥|表哥|堂哥|弟弟|表弟|"
    "堂弟|姐姐|表姐|堂姐|妹妹|表妹|堂妹|舅舅|叔叔|姑姑|阿姨|孙子|孙女|侄子|侄女|那个"
)
"""Announce a name in talk, where a verb of talk follows it. Words only, none of them optional: from
those `re` makes a set of first characters, and passes over all others fast."""
_HAN = r"[\u4e00-\u9fff]"
_GIVEN_NOT = "的了是在有和与及或也都不没吗呢吧啊呀这那哪其为"
NAME_CUE = "|".join(
    [rf"{cue}(?:[ \t]*[:：是为叫\\\"'“「『(（|]|[ \t]){{0,6}}" for cue in NAME_CUES.split("|")]
    + [rf"{cue}[ \t]*[:：][ \t]*" for cue in WEAK_CUES.split("|")]
)
"""Each alternative begins with a character, so that `re` makes a set of them (see `_KIN`)."""
_NAME = re.compile(
    rf"(?:{NAME_CUE})"
    rf"(?P<name>{_HAN}{{2,6}}(?:·{_HAN}{{1,8}}){{1,3}}"
    rf"|(?:{_COMPOUND}|[{_SURNAMES}])(?![{_GIVEN_NOT}]){_HAN}{{1,2}})"
)
_IN_TALK = re.compile(
    rf"(?:{_KIN})(?:名?叫|是)?"
    rf"(?P<name>(?:{_COMPOUND}|[{_SURNAMES}])(?![{_GIVEN_NOT}]){_HAN}{{1,2}})"
)
_VERBS = re.compile(
    r"\Z|[^\u4e00-\u9fffA-Za-z·]|的|是|最近|总是|总|又|找|今[天晚早年]|昨[天晚]|明[天年]|上[周个]|下[周个]|"
    r"突然|经常|每[天次]|一直|什么|不|没|说|对|要|会|就|把|给|去|来|很|太|做|让|叫|家|借|打|老是|在|和|跟|想|"
    r"有|被|住|抑郁|住院|生病|结婚|离职|已经|刚|还|也|都"
)
_ENDS = re.compile(
    r"\Z|[^\u4e00-\u9fffA-Za-z·]|先生|女士|小姐|老师|同学|医生|同志|教授|的|是|今年|来自|住在|住址|"
    r"现住|家住|在|和|与|跟|及|或|电话|手机|身份|证件|性别|男|女|出生|生于|毕业|联系|邮箱|地址|年龄|"
    r"岁|因|于|已|向|从|被|将|说|称|有|想|要|需|也|，|民族|职业|工号|学号|银行|卡号|护照"
)
_NOT_NAMES = words(
    "应当 高中 高中生 高级 安排 方便 常见 平时 时候 时间 成功 都是 应该 明天 明白 金额 金融 那么 "
    "那个 全部 全名 全称 简称 相同 相关 单位 单独 高兴 任何 任意 公司 空白 通过 向导 原因 "
    "常用 商家 项目 经理 程序 年龄 连接 温馨 须知 容易 成员 利益 管理员 管理 计划 解释 "
    "计算机 强制 越来越 于是 方式 方法 关系 白天 黑色 单号 尚未 查询 查看 连同 广东 广西 "
    "山东 山西 江苏 江西 云南 海南 安徽 宁夏 元素 支付 和谐 万一 马上 包括 包含 施工 谢谢 "
    "何时 何人 金牌 华为 方案 章程 "
)
_NOT_BEGUN = _NOT_NAMES | words(
    "常常 从来 时常 成绩 年纪 年级 房子 车子 关心 相信 包容 严厉 高考 幸福 解决 毛病 查出 "
    "干活 习惯 支持 全家 舒服 商量 计较 应聘 焦虑 宁愿 甘愿 乐观 单身 党员 步行 向来 经常 "
    "安静 温柔 平常 高烧 高血 时不 万分 终于 幸好 空闲 广场 金钱 那边 那里 满意 满足 危险 "
)
"""No name in talk begins so, where nothing but a relative stands before it."""
_TITLES = re.compile(r"先生|女士|小姐|老师|经理|主任|医生|同学|同志|师傅|总")

_PROVINCE = (
    r"(?:北京|天津|上海|重庆|河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|"
    r"湖南|广东|海南|四川|贵州|云南|陕西|甘肃|青海|台湾|内蒙古|广西|西藏|宁夏|新疆|香港|澳门)"
    r"(?:省|市|(?:壮族|回族|维吾尔)?自治区|特别行政区)?"
)
_AREA = (
    rf"(?:{_HAN}{{2,7}}?(?:自治州|地区|州|盟|市))?(?:{_HAN}{{1,7}}?(?:自治县|自治旗|区|县|旗|市))"
)
_TOWN = rf"(?:{_HAN}{{1,8}}?(?:街道|镇|乡|开发区|新区|村|社区))?"
_ROAD = (
    rf"(?:{_HAN}{{1,10}}?(?:大街|大道|路|街|道|巷|胡同|弄|里|村|屯|庄)"
    r"(?:[东西南北中]?段|[东西南北中])?)"
)
_NUMBER = "[0-9一二三四五六七八九十百]"
_ANCHOR = re.compile(rf"{_NUMBER}{_NUMBER}{{0,4}}(?:-\d{{1,4}})?号")
_HEAD = re.compile(rf"(?P<area>{_PROVINCE}(?:{_AREA})?|{_AREA})?{_TOWN}{_ROAD}?\Z")
_BACK = 40
"""Characters before a house number that its street and town may take."""
_REST = re.compile(
    rf"(?:{_HAN}{{1,12}}?(?:小区|花园|公寓|大厦|广场|家园|新村|苑|院|大楼|宿舍)|"
    r"[0-9A-Za-z一二三四五六七八九十]{1,5}(?:号楼|号院|栋|幢|座|单元|层|楼|室|户|号|-(?=\d))"
    r"|[0-9]{1,4}(?![0-9A-Za-z]))*"
)
_HOME_CUE = re.compile(
    r"(?:住址|地址|住在|家住|现住|居住于|寄到|寄往|送到|户籍|籍贯|住所|住处|所在地|住(?="
    + _PROVINCE
    + r")|"
    r"家在|老家|搬到|房子在|公司在|学校在)"
    r"[ \t]*[:：是为在于]{0,2}[ \t]*"
)
_PROVINCE_START = re.compile(_PROVINCE)
_AREA_SIGN = re.compile(f"[区县旗市盟州]|地区|{_PROVINCE}")
_LEADS = re.compile(
    r"(?:居|家|现)*住(?:在|于|址|所)?|位于|寄到|寄往|送到|送至|地址|户籍|来自|家在|老家(?:是|在)|搬到|"
    r"(?:房子|公司|学校|单位)在|[错发去]到|[天我他她]去|[天我他她]在"
)
_FREE = re.compile(r"[^\s,，。;；!！?？、|\"'“”<>{}\[\]]{5,45}")
_COARSE = re.compile(rf"{_PROVINCE}|{_HAN}{{2,8}}?(?:省|市|区|县|镇|乡|州|旗|盟)")
_FINE = re.compile(r"路|街|号|村|组|室|栋|幢|小区|单元|楼|巷|弄|屯|道|苑|公寓")
_GIVEN = rf"[{_HAN[1:-1]}&&[^{_GIVEN_NOT}]]"
_CUE_GLANCED = re.sub(r"\(\?=.*?\}?(?:\[[^\]]*\])?\)", "", NAME_CUES)
_PLACE_ENDS = (
    "京津海庆北西宁林江苏徽建东南川州肃湾古藏夏疆港门省市区县旗街道镇乡村路巷同弄里屯庄段中"
)
"""What stands before a house number: an area, a street or their last letters."""


def _name_glanced(ends: re.Pattern[str]) -> str:
    end = "(?:" + ends.pattern.replace(r"\Z", "$") + ")"
    return rf"(?:(?:{_COMPOUND}){_HAN}{{0,2}}{end}|[{_SURNAMES}]{_GIVEN}{_HAN}?{end})"


GLANCE = "|".join([
    (rf"(?:(?:{_CUE_GLANCED})(?:[ \t]*[:：是为叫\\\"'“「『(（|]|[ \t]){{0,6}}"
    rf"|(?:{WEAK_CUES})[ \t]*[:：][ \t]*)(?:{_name_glanced(_ENDS)}|{_HAN}+·)"),
    rf"(?:{_KIN})(?:名?叫|是)?{_name_glanced(_VERBS)}",
    rf"[{_PLACE_ENDS}]{_NUMBER}{{1,5}}(?:[-—][0-9]{{1,4}})?号",
    (r"(?:住址|地址|住在|家住|现住|居住于|寄到|寄往|送到|户籍|籍贯|住所|住处|所在地|住|家在|老家|搬到|"
    r"房子在|公司在|学校在)[ \t]*[:：是为在于]{0,2}[ \t]*"
     rf"(?:{_PROVINCE}|{_HAN}+[省市区县镇乡州旗盟])"),
])  # fmt: skip
"""Where a rule here may find something in a text that is not flat yet (see `personal`). No counts
where an unbounded repetition does: places counted side by side make many states."""


def find(text: str) -> Iterator[Personal]:
    """Names and addresses in flat text; may overlap."""
    yield from _names(text)
    yield from _addresses(text)


def _names(text: str) -> Iterator[Personal]:
    yield from _announced(text, _NAME, _ENDS)
    for found in _announced(text, _IN_TALK, _VERBS):
        if text[found.start : found.start + 2] not in _NOT_BEGUN:
            yield found


def _announced(text: str, cues: re.Pattern[str], ends: re.Pattern[str]) -> Iterator[Personal]:
    at = 0
    while (found := cues.search(text, at)) is not None:
        at = max(found.start("name"), at + 1)
        end = _name_end(text, (found.start("name"), found.end("name")), ends)
        if end:
            yield Personal(Kind.NAME, found.start("name"), end)
            at = end


def _name_end(text: str, span: tuple[int, int], ends: re.Pattern[str]) -> int:
    """Where the name ends for sure: before something that cannot go on with it. 0 for no name."""
    start, end = span
    is_foreign = "·" in text[start:end]
    shortest = end if is_foreign else start + 2
    while end >= shortest:
        name = text[start:end]
        if ends.match(text, end) and name not in _NOT_NAMES and not _TITLES.match(name, 1):
            return end
        end -= 1
    return 0


def _addresses(text: str) -> Iterator[Personal]:
    for found in _ANCHOR.finditer(text) if "号" in text else ():
        low = max(0, found.start() - _BACK)
        start = _head_start(text, low, found.start())
        if start < found.start():
            rest = _REST.match(text, found.end())
            yield Personal(Kind.ADDRESS, start, rest.end() if rest else found.end())
    for cue in _HOME_CUE.finditer(text):
        free = _FREE.match(text, cue.end())
        if free and _COARSE.match(free[0]) and _FINE.search(free[0]):
            yield Personal(Kind.ADDRESS, *free.span())


def _head_start(text: str, low: int, end: int) -> int:
    """Where the area and street before a house number start; `end` when no area is named."""
    if _AREA_SIGN.search(text, low, end) is None:
        return end
    for at in range(low, end):
        head = _HEAD.match(text, at, end)
        if head is not None and head["area"] and end - at >= 4:
            return _behind_verb(text, at, end)
    return end


def _behind_verb(text: str, start: int, end: int) -> int:
    """Where a place itself starts: at its province, or behind the words that lead to it."""
    province = _PROVINCE_START.search(text, start, end)
    if province is not None:
        return province.start()
    ends = [m.end() for m in _LEADS.finditer(text, start, end) if end - m.end() >= 4]
    return ends[-1] if ends else start
