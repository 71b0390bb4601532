"""From Alertmanager to the group robots of Feishu, DingTalk and WeCom."""
