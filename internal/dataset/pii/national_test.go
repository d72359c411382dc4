package pii_test

import (
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset/pii"
)

// Ids of the countries' own documents and of their tax offices' examples, in a sentence as people write it. wrong is the same with one digit
// changed, which its checksum or its rule does not let pass.
func TestAnIDOfEachCountryIsFoundByItsRule(t *testing.T) {
	for _, c := range []struct{ entity, text, wrong string }{
		{"dk_cpr", "mit CPR-nummer er 070761-4285", "mit CPR-nummer er 074561-4285"},
		{"kr_rrn", "주민등록번호: 820701-2409181", "주민등록번호: 821301-2409181"},
		{"za_id", "my South African ID number is 8001015009087", "my South African ID number is 8001015009088"},
		{"tr_kimlik", "TC kimlik no: 10000000146", "TC kimlik no: 10000000147"},
		{"be_national", "rijksregisternummer 85.07.30-033.28", "rijksregisternummer 85.07.30-033.29"},
		{"cz_birth_number", "rodné číslo 736028/5163", "rodné číslo 736028/5164"},
		{"ch_ahv", "AHV-Nummer 756.9217.0769.85", "AHV-Nummer 756.9217.0769.86"},
		{"fr_nir", "numéro de sécurité sociale 2 55 08 14 168 025 38", "numéro de sécurité sociale 9 55 08 14 168 025 38"},
		{"pl_pesel", "PESEL 44051401359", "PESEL 44051401358"},
		{"de_tax_id", "Steuer-ID 36574261809", "Steuer-ID 36574261808"},
		{"au_tfn", "my tax file number is 123 456 782", "my tax file number is 123 456 783"},
		{"au_abn", "ABN 51 824 753 556", "ABN 51 824 753 557"},
		{"au_medicare", "Medicare card 2123 45670 1", "Medicare card 2123 45680 1"},
		{"ca_sin", "SIN: 130 692 544", "SIN: 130 692 545"},
		{"br_cpf", "CPF 111.444.777-35", "CPF 111.444.777-36"},
		{"br_cnpj", "CNPJ 11.222.333/0001-81", "CNPJ 11.222.333/0001-82"},
		{"mx_curp", "CURP: BOXW310820HNERXN09", "CURP: BOXW310820HNERXN08"},
		{"in_pan", "PAN card ABCPE1234F", "PAN card ABCDE1234"},
		{"in_aadhaar", "Aadhaar 2341 2341 2346", "Aadhaar 2341 2341 2347"},
		{"us_itin", "ITIN 912-70-1234", "ITIN 912-10-1234"},
		{"us_ein", "EIN 12-3456789", "EIN 00-3456789"},
		{"nl_bsn", "BSN 111222333", "BSN 111222334"},
		{"se_personnummer", "personnummer 811218-9876", "personnummer 811218-9877"},
		{"fi_hetu", "henkilötunnus 131052-308T", "henkilötunnus 131052-308U"},
		{"es_nif", "DNI 12345678Z", "DNI 12345678A"},
		{"es_nie", "NIE X1234567L", "NIE X1234567M"},
		{"it_codice_fiscale", "codice fiscale RSSMRA85T10A562S", "codice fiscale RSSMRA85T10A562T"},
		{"sg_nric", "NRIC S1234567D", "NRIC S1234567E"},
		{"uk_nino", "National Insurance number QQ 12 34 56 C", ""},
		{"uk_nhs", "NHS number 943 476 5919", "NHS number 943 476 5918"},
		{"cn_resident_id", "身份证 11010519491231002X", "身份证 110105194912310021"},
		{"us_ein", "Federal tax ID 12-3456789", "order ID 12-3456789"},
	} {
		if c.entity == "uk_nino" { // QQ is of nobody: that of an example is none
			c.text, c.wrong = "National Insurance number AB 12 34 56 C", c.text
		}
		found := func(text string) bool {
			for _, f := range pii.New(pii.Options{National: true}).Scan(nil, []byte(text)) {
				if f.Entity == forge.PIIEntity(c.entity) && pii.AtLeast(f.Confidence, forge.ConfidenceMedium) {
					return true
				}
			}
			return false
		}
		if !found(c.text) {
			t.Errorf("%s is not found in %q", c.entity, c.text)
		}
		if found(c.wrong) {
			t.Errorf("%s is found in %q", c.entity, c.wrong)
		}
	}
}
