package pii

import "strings"

// A topic is what a word near a number speaks of.
type topic uint64

const (
	tPhone topic = 1 << iota
	tCard
	tIBAN
	tSSN
	tIP
	tMAC
	tAWS
	tPass    // password is …
	tNot     // an order, a part, a version: what numbers are that are nobody's
	tVersion // versions and sections, which look like addresses
	tSSH     // what follows is a login, no mailbox
	tMessage // headers with ids that look like mailboxes
	tTax     // national ids of any country
	tNHS
	tNINO
	tDE
	tFR
	tES
	tIT
	tPL
	tNL
	tSE
	tFI
	tIN
	tBR
	tAU
	tCA
	tSG
	tPassport
	tEIN
	tITIN
	tOther
	tOwner  // my, your
	tCount  // number
	tFiller // says nothing and stands between: number, is, my

	tNational = (tOther<<1 - 1) &^ (tTax - 1) // ids of people, whatever country's
)

// topics has the words in lower case. Those of languages without blanks are looked for inside of what stands there.
var topics map[string]topic

// topicForms has the first byte, the length and (six bits of) the last byte of every word of topics.
var topicForms [256][32]uint64

func loadTopicForms() {
	for w := range topics {
		if last := len(w) - 1; last >= 0 && last < len(topicForms[0]) {
			topicForms[w[0]][last] |= 1 << (w[last] & 63)
		}
	}
}

func loadTopics() map[string]topic {
	m := map[string]topic{}
	for t, words := range map[topic]string{
		tPhone: `phone phones telephone tel tele mobile mobil cell cellphone cellular call calls called calling caller callback fax whatsapp sms contact dial ring reach reached
			hotline helpline phonenumber mob ph landline voicemail text texted telegram signal desk office emergency switchboard dispatcher messages answering answer registered
			telefon telefonnummer handy handynummer rufnummer anrufen anruf erreichen erreichbar festnetz mobilnummer rückruf telefonisch
			téléphone telephone tél portable appeler appelez appelle joindre fixe joignable rappeler rappelez numéro
			teléfono telefono móvil movil celular llamar llámame llame llamen contacto tlf tfno cel whats
			cellulare chiama chiamare chiamami chiami recapito telefone telemóvel telemovel ligue ligar ligação contato fone
			telefoon telefoonnummer mobiel bel bellen belt gsm komórka komórkowy zadzwoń kontakt kom telefonu ring ringa mobilnummer tlf mobiltelefon puhelin puhelinnumero soita puh
			телефон телефона телефону тел звоните позвоните номер моб мобильный позвонить связаться telefonum cep ara arayın telefonnummern mobitel
			هاتف هاتفي جوال फोन मोबाइल नंबर फ़ोन τηλέφωνο κινητό טלפון điện thoại`,
		tCard: `card cards credit debit visa mastercard amex discover maestro diners jcb cc ccn ccnum pan cvv cvc cvv2 creditcard cardnumber expiry expires exp express unionpay
			kreditkarte kartennummer karte karten kreditkartennummer carte bancaire bleue tarjeta tarjetas crédito credito carta cartão cartao kort kortnummer kreditkort kaart creditcardnummer
			karta karty karcie кредитной карта карты карту kartı kart luottokortti charge charged billing payment pay paid`,
		tIBAN:     `iban bank account konto kontonummer bankverbindung compte virement cuenta conto bonifico conta rekening rekeningnummer konta sepa bic swift transfer überweisung счет money funds accounts beneficiary`,
		tSSN:      `ssn social security ssns socialsecurity ss socsec`,
		tIP:       `ip ips ipv4 ipv6 address addr host hosts server servers client remote dns nameserver gateway ping traceroute ssh from connect connected connection login blocked firewall peer source src dst destination subnet vpn proxy forwarded xff whois nmap curl upstream listening endpoint inet remoteaddr adresse attacker ban banned node`,
		tMAC:      `mac hwaddr ether ethernet hwaddress wifi bssid physical lladdr`,
		tAWS:      `aws amazon secret secretaccesskey s3 boto boto3 iam`,
		tPass:     `password passwort passwd pwd passphrase contraseña senha wachtwoord hasło пароль lösenord passcode`,
		tNot:      `order orders invoice tracking ticket ref reference sku part serial model isbn issn ean upc barcode gtin asin build revision rev release commit hash sha sha1 sha256 md5 checksum uuid guid id ids timestamp epoch unix latitude longitude lat lon lng coordinates coords transaction txn shipment parcel package po batch lot job session request trace pid imei iccid doi arxiv pmid oclc nsn mpn catalog catalogue cat article issue pr bug case_id order_id confirmation receipt offset size bytes seed row line population population meter odometer bestellung bestellnummer rechnung rechnungsnummer artikelnummer artikel auftrag sendung sendungsnummer seriennummer commande facture référence pedido factura referencia ordine fattura encomenda nota bestelnummer factuur zamówienie faktura заказ заказа счёт артикул order-id orderid invoiceid trackingnumber partnumber serialnumber container iteration step counter hex int long bigint note costs cost price prices priced amount total sum fee worth balance case claim policy reservation booking`,
		tVersion:  `version versions ver v release section sections chapter sec § firmware build rev kernel driver upgrade upgraded upgrading update updated patch requires appendix clause paragraph figure fig table article subsection changelog`,
		tSSH:      `ssh scp rsync sftp mosh sshfs ssh-copy-id autossh`,
		tMessage:  `message-id in-reply-to references messageid`,
		tTax:      `tax taxpayer tin national identity identification id-number steuer identifiant`,
		tNHS:      `nhs patient`,
		tNINO:     `nino ni insurance national-insurance`,
		tDE:       `steuer-id steueridentifikationsnummer steuernummer idnr steuerid tin identifikationsnummer steuerliche`,
		tFR:       `nir insee sécurité sécu securite sociale`,
		tES:       `dni nie nif documento identidad`,
		tIT:       `codice fiscale cf`,
		tPL:       `pesel`,
		tNL:       `bsn burgerservicenummer sofi`,
		tSE:       `personnummer samordningsnummer`,
		tFI:       `hetu henkilötunnus`,
		tIN:       `aadhaar aadhar uidai pan uid आधार`,
		tBR:       `cpf cnpj`,
		tAU:       `tfn abn medicare acn`,
		tCA:       `sin nas insurance`,
		tSG:       `nric fin`,
		tPassport: `passport passeport reisepass pasaporte passaporto paszport paspoort passnummer`,
		tEIN:      `ein fein employer`,
		tITIN:     `itin`,
		tOther:    `curp rut run cuit cnp kimlik tckn cpr svnr rijksregisternummer ahv avs nif egn oib jmbg rrn emirates african`,
		tOwner:    `my your his her our their mine mein meine dein mi mon`,
		tCount:    `number num no nr nummer numero número`,
		tFiller:   `number num numbers no nr nº n° n is was are the my your his her our their of for on at to me us a an and or in it's its please ist meine mein nummer numero número est mon es mi el il mio field string content`,
	} {
		for _, w := range strings.Fields(words) {
			m[w] |= t
		}
	}
	return m
}

// inside are the words of languages that put no blanks between words.
var inside = []struct {
	word string
	t    topic
}{
	{"电话", tPhone}, {"電話", tPhone}, {"☎", tPhone}, {"📞", tPhone}, {"📱", tPhone}, {"✆", tPhone}, {"手机", tPhone}, {"手機", tPhone}, {"拨打", tPhone}, {"联系", tPhone}, {"携帯", tPhone}, {"전화", tPhone}, {"휴대폰", tPhone}, {"연락처", tPhone}, {"โทร", tPhone},
	{"致电", tPhone}, {"短信", tPhone}, {"番号", tFiller}, {"号码", tFiller}, {"번호", tFiller}, {"订单", tNot}, {"訂單", tNot}, {"注文", tNot}, {"주문", tNot}, {"编号", tNot}, {"单号", tNot}, {"型号", tNot}, {"版本", tVersion}, {"バージョン", tVersion},
	{"信用卡", tCard}, {"银行卡", tCard}, {"卡号", tCard}, {"カード", tCard}, {"카드", tCard}, {"身份证", tOther}, {"주민등록", tOther}, {"マイナンバー", tOther}, {"密码", tPass}, {"密碼", tPass}, {"パスワード", tPass}, {"地址", tIP},
}
