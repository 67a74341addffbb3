package policy

import "xinqiao/exchange"

func explainEN(code exchange.Code) explanation {
	switch code {
	case exchange.DenyNoRule:
		return explanation{"The holder has no rule that opens this item to your department.", "Government Data Sharing Regulation Art. 14", "Apply to the holder for sharing; it then makes and publishes a rule."}
	case exchange.DenyPurpose:
		return explanation{"The rule does not permit this purpose.", "Government Data Sharing Regulation Art. 25", "Check the purpose of the case; another purpose needs a new application."}
	case exchange.DenyMatter:
		return explanation{"The rule does not permit this service matter for your department.", "Government Data Sharing Regulation Art. 20", "Check the matter code, or ask the holder to add the matter to its rule."}
	case exchange.DenyField:
		return explanation{"The rule does not permit this field in this mode.", "Personal Information Protection Law Art. 6", "Leave the field out, or ask for it in a permitted mode, such as a predicate."}
	case exchange.DenyBasis:
		return explanation{"The rule does not accept this kind of legal basis.", "Personal Information Protection Law Art. 13", "Use a basis that the rule lists, for example the person's consent."}
	case exchange.DenyNoAuthority:
		return explanation{"The request names no authority record in force for this person and case.", "Personal Information Protection Law Art. 13", "If there is a consent, name its id in the request; if not, obtain it or register the statutory duty. Then ask again."}
	case exchange.DenyWithdrawn:
		return explanation{"The authority was withdrawn.", "Personal Information Protection Law Art. 15", "Stop using it. If the data are still needed, explain why and obtain a new consent."}
	case exchange.DenyAuthExpired:
		return explanation{"The authority is outside its validity.", "Personal Information Protection Law Art. 14", "Obtain a new authority."}
	case exchange.DenyAuthScope:
		return explanation{"The authority does not cover a field, the purpose, the case or the person asked for.", "Personal Information Protection Law Art. 14", "Ask only for what it covers, or obtain one that covers this."}
	case exchange.DenyExhausted:
		return explanation{"The permitted number of reads is used up.", "Personal Information Protection Law Art. 6", "Use the answer you have. To read again, obtain a new authority or agree a higher limit with the holder."}
	case exchange.DenyNoGrant:
		return explanation{"No share grant for this item is in force between the two departments.", "Government Data Sharing Regulation Art. 20", "The head of your sharing office applies; ask again once the holder has agreed."}
	case exchange.DenyGrantScope:
		return explanation{"The share grant does not cover a field or the purpose.", "Government Data Sharing Regulation Art. 25", "Ask only for what the grant covers, or apply for a change of it."}
	case exchange.DenyCase:
		return explanation{"There is no open case that matches the request.", "Online Government Services Provisions (Decree 716) Art. 7", "Ask while the case is open, and check its number."}
	case exchange.DenyOperator:
		return explanation{"The operator is not on your department's roster in a role that may ask.", "Personal Information Protection Law Art. 51", "Let an operator in the required role ask, or have the roster updated."}
	case exchange.DenyBaseline:
		return explanation{"The sharing authority's baseline forbids it.", "Government Data Sharing Regulation Art. 35", "Neither department can relax it; consult the sharing authority."}
	case exchange.DenyRequester:
		return explanation{"Your own department's restrictions forbid it.", "Personal Information Protection Law Art. 51", "Ask in a role, for a purpose and at a time your department permits, or have the restriction changed."}
	case exchange.DenyMember:
		return explanation{"A party is not an active member, or its certificate is not valid.", "Government Data Sharing Regulation Art. 35", "That department's operators check its membership and certificates."}
	case exchange.DenyRuleExpired:
		return explanation{"The rule is outside its validity.", "Government Data Sharing Regulation Art. 20", "Ask the holder to publish a rule that is in force."}
	case exchange.DenyBadMessage:
		return explanation{"The request is not acceptable in its form.", "Government Data Sharing Regulation Art. 20", "Correct it by the API description and send it again; name at least one field."}
	case exchange.DenyJudges:
		return explanation{"The two evaluators disagree, or one of them failed.", "Government Data Sharing Regulation Art. 35", "Give the trace id to the holder's operators."}
	case exchange.DenyMaterial:
		return explanation{"The material is revoked, or its status cannot be confirmed.", "Government Data Sharing Regulation Art. 18", "Try again later; if it persists, contact the holder."}
	case exchange.DenyUnknownItem:
		return explanation{"The holder's catalogue has no such item.", "Government Data Sharing Regulation Art. 12", "Look the item's name up in the catalogue."}
	case exchange.DenyUndetermined:
		return explanation{"A fact needed for the decision could not be read, so it is denied.", "Government Data Sharing Regulation Art. 35", "Try again later; if it persists, the operators of the holder's node or of yours check it."}
	}
	return explanation{}
}
