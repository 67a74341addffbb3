package policy

import "xinqiao/exchange"

func explainZH(code exchange.Code) explanation {
	switch code {
	case exchange.DenyNoRule:
		return explanation{"数据提供部门没有向本部门开放该目录项的规则。", "政务数据共享条例 第十四条", "向提供部门提出共享申请，由其制定并发布规则。"}
	case exchange.DenyPurpose:
		return explanation{"规则不允许用于该用途。", "政务数据共享条例 第二十五条", "核对办件的用途；确需其他用途的，重新提出共享申请。"}
	case exchange.DenyMatter:
		return explanation{"规则不允许本部门在该政务服务事项中使用。", "政务数据共享条例 第二十条", "核对事项编码；确需使用的，请提供部门在规则中增加该事项。"}
	case exchange.DenyField:
		return explanation{"规则不允许以该方式提供此数据项。", "个人信息保护法 第六条", "去掉该数据项，或改用规则允许的方式（例如判断结果）。"}
	case exchange.DenyBasis:
		return explanation{"规则不接受这种合法性基础。", "个人信息保护法 第十三条", "改用规则列明的基础，例如请当事人作出同意。"}
	case exchange.DenyNoAuthority:
		return explanation{"请求没有指明适用于该当事人和该办件的有效授权记录。", "个人信息保护法 第十三条", "已有同意的，请在请求中写明授权记录编号；没有的，请当事人作出同意，或登记法定职责依据，再重新查询。"}
	case exchange.DenyWithdrawn:
		return explanation{"授权已被撤回。", "个人信息保护法 第十五条", "停止使用；确有需要的，向当事人重新说明并取得新的同意。"}
	case exchange.DenyAuthExpired:
		return explanation{"授权不在有效期内。", "个人信息保护法 第十四条", "请当事人作出新的授权。"}
	case exchange.DenyAuthScope:
		return explanation{"授权未涵盖所请求的数据项、用途、办件或当事人。", "个人信息保护法 第十四条", "只请求授权涵盖的内容，或取得范围相符的新授权。"}
	case exchange.DenyExhausted:
		return explanation{"允许的查询次数已用完。", "个人信息保护法 第六条", "使用已取得的结果；确需再次查询的，取得新的授权或与提供部门商定次数。"}
	case exchange.DenyNoGrant:
		return explanation{"两部门之间没有该目录项的有效共享授权。", "政务数据共享条例 第二十条", "由共享工作机构负责人提出共享申请，经提供部门同意后再查询。"}
	case exchange.DenyGrantScope:
		return explanation{"共享授权未涵盖该数据项或用途。", "政务数据共享条例 第二十五条", "只请求共享授权涵盖的内容，或申请变更共享授权。"}
	case exchange.DenyCase:
		return explanation{"没有与该请求相符的在办办件。", "国务院关于在线政务服务的若干规定 第七条", "在办件受理后、办结前查询，并核对办件号。"}
	case exchange.DenyOperator:
		return explanation{"经办人不在本部门名册中，或其岗位不符合要求。", "个人信息保护法 第五十一条", "由具备相应岗位的经办人查询，或由本部门更新名册。"}
	case exchange.DenyBaseline:
		return explanation{"共享主管部门的底线规则禁止该请求。", "政务数据共享条例 第三十五条", "提供部门和需求部门均不能放宽；请向共享主管部门咨询。"}
	case exchange.DenyRequester:
		return explanation{"本部门自定的限制禁止该请求。", "个人信息保护法 第五十一条", "在本部门允许的岗位、用途和时间内查询，或请本部门调整限制。"}
	case exchange.DenyMember:
		return explanation{"一方部门不是有效成员，或其证书无效。", "政务数据共享条例 第三十五条", "由该部门的运维人员检查成员资格和证书。"}
	case exchange.DenyRuleExpired:
		return explanation{"规则不在有效期内。", "政务数据共享条例 第二十条", "请提供部门发布有效的规则。"}
	case exchange.DenyBadMessage:
		return explanation{"请求的内容不合规定。", "政务数据共享条例 第二十条", "按接口说明更正后重新发送；至少写明一个数据项。"}
	case exchange.DenyJudges:
		return explanation{"两个判定程序结论不一致或其中之一出错。", "政务数据共享条例 第三十五条", "请将跟踪编号交给提供部门的运维人员。"}
	case exchange.DenyMaterial:
		return explanation{"材料已被撤销，或其状态无法确认。", "政务数据共享条例 第十八条", "稍后重试；仍被拒绝的，请联系提供部门。"}
	case exchange.DenyUnknownItem:
		return explanation{"提供部门的目录中没有该目录项。", "政务数据共享条例 第十二条", "在政务数据目录中查找正确的目录项名称。"}
	case exchange.DenyUndetermined:
		return explanation{"判定所需的事实无法读取，因此拒绝。", "政务数据共享条例 第三十五条", "稍后重试；仍被拒绝的，请提供部门或本部门的运维人员检查节点。"}
	}
	return explanation{}
}
