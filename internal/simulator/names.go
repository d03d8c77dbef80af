package simulator

import "strings"

var firstNames = []string{
	"Ada", "Adaeze", "Aiko", "Alejandra", "Amara", "Anders", "Anika", "Ayşe", "Bao", "Beatriz", "Callum", "Chiara", "Chidi", "Dalia", "Diego",
	"Eilidh", "Elif", "Emre", "Farah", "Fatima", "Finn", "Gabriel", "Grace", "Hana", "Hugo", "Ibrahim", "Imani", "Ines", "Ingrid", "Jakub",
	"Jamal", "Jia", "João", "Kavya", "Kenji", "Kofi", "Lakshmi", "Leila", "Linh", "Lucía", "Mateo", "Mei", "Miriam", "Moana", "Nadia",
	"Niamh", "Noor", "Oksana", "Olumide", "Omar", "Priya", "Rafael", "Rohan", "Rosa", "Ruth", "Sanne", "Santiago", "Sione", "Søren", "Tariq",
	"Thandiwe", "Tomasz", "Usha", "Victor", "Wanjiru", "Xiomara", "Yara", "Yusuf", "Zainab", "Zoë",
}

var lastNames = []string{
	"Abdullah", "Adeyemi", "Almeida", "Andersson", "Banerjee", "Bianchi", "Campbell", "Castillo", "Chen", "Cohen", "Costa", "Dang", "de Vries",
	"Demir", "Diallo", "Dubois", "Eriksen", "Fernández", "Fischer", "García", "Haddad", "Hopper", "Horvat", "Hughes", "Ito", "Iyer", "Jackson",
	"Jansen", "Kamau", "Kaya", "Khan", "Kim", "Kovács", "Kowalska", "Lovelace", "MacLeod", "Mahlangu", "Mendoza", "Murphy", "Nakamura", "Nguyễn",
	"Novák", "O'Brien", "Okafor", "Okonkwo", "Papadopoulos", "Patel", "Petrov", "Rahman", "Ramirez", "Rossi", "Sato", "Schmidt", "Shevchenko",
	"Silva", "Singh", "Tanaka", "Tāne", "Torres", "Turing", "van Dijk", "Wang", "Washington", "Yilmaz", "Zhang",
}

var groupNames = []string{
	"Engineering", "Design", "Finance", "Sales", "Support", "Legal", "Marketing", "Data", "Platform", "Security", "People", "Operations",
	"Research", "On-call", "Leadership", "Contractors",
}

var plain = strings.NewReplacer("ã", "a", "á", "a", "ā", "a", "é", "e", "ë", "e", "ễ", "e", "í", "i", "ø", "o", "ş", "s", "'", "", " ", "")
