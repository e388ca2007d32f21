//! Documents as the fake reads them, and what each mistake in one is called.

use super::*;

fn fault(body: &str) -> u32 {
    Document::read(&format!("<Response>{body}</Response>")).unwrap_err().code
}

fn stream_with(attributes: &str, children: &str) -> String {
    format!("<Connect><Stream url=\"wss://a.example/v1\"{attributes}>{children}</Stream></Connect>")
}

#[test]
fn the_documents_of_a_call_are_read() {
    let text = r#"<?xml version="1.0" encoding="UTF-8"?>
        <Response>
          <Connect>
            <Stream url="wss://a.example/v1/m/n1" statusCallback="https://a.example/s">
              <Parameter name="ticket" value="v4.public.x"/>
            </Stream>
          </Connect>
          <Redirect method="POST">https://a.example/r/1#rc=3&amp;rp=all</Redirect>
        </Response>"#;
    let document = Document::read(text).unwrap();
    assert_eq!(document.names(), ["Connect", "Redirect"]);
    let Verb::Connect { stream, action: None } = &document.verbs[0] else { panic!() };
    assert_eq!(stream.url, "wss://a.example/v1/m/n1");
    assert_eq!(stream.parameters, [("ticket".into(), "v4.public.x".into())]);
    assert_eq!(stream.status.as_ref().unwrap().url, "https://a.example/s");
    let Verb::Redirect(target) = &document.verbs[1] else { panic!() };
    assert_eq!(target.url, "https://a.example/r/1#rc=3&rp=all");

    let text = "<Response><Say voice=\"x\">Sorry.</Say><Pause length=\"2\"/><Dial timeout=\"9\">\
                <Number>+15551230003</Number></Dial><Hangup/></Response>";
    let document = Document::read(text).unwrap();
    let dial = Verb::Dial { to: "+15551230003".into(), action: None };
    assert_eq!(document.verbs[1..], [Verb::Pause(2), dial, Verb::Hangup]);
}

#[test]
fn broken_xml_is_12100() {
    for text in ["", "Response", "<Response>", "<Response><Hangup></Response>"] {
        assert_eq!(Document::read(text).unwrap_err().code, 12100, "{text}");
    }
}

#[test]
fn unknown_verbs_attributes_and_nestings_are_12200() {
    assert_eq!(Document::read("<response/>").unwrap_err().code, 12200);
    for body in [
        "<HangUp/>",
        "<Hangup reason=\"x\"/>",
        "<Hangup>now</Hangup>",
        "<Connect/>",
        "<Connect><Say>x</Say></Connect>",
        "<Connect Action=\"https://a.example\"><Stream url=\"wss://a.example\"/></Connect>",
        "<Say><Hangup/></Say>",
        "<Pause length=\"long\"/>",
        "<Redirect method=\"PUT\">https://a.example</Redirect>",
        "<Say>x</Say><Reject/>",
        &stream_with(" statuscallback=\"https://a.example\"", ""),
        &stream_with("", "<Parameter name=\"x\"/>"),
        &stream_with("", "<Parameter name=\"x\" value=\"y\" type=\"z\"/>"),
        &stream_with("", "<Param name=\"x\" value=\"y\"/>"),
    ] {
        assert_eq!(fault(body), 12200, "{body}");
    }
}

#[test]
fn a_stream_needs_a_plain_wss_url() {
    let url = |url: &str| fault(&format!("<Connect><Stream url=\"{url}\"/></Connect>"));
    assert_eq!(url("https://a.example/v1"), 31922);
    assert_eq!(url("ws://a.example/v1"), 31922);
    assert_eq!(url("wss://a.example/v1?token=x"), 31920);
    assert_eq!(url("wss:///v1"), 31923);
    assert_eq!(url("/v1"), 31923);
    assert_eq!(fault(&stream_with(" track=\"both_tracks\"", "")), 31941);
}

#[test]
fn five_hundred_characters_of_parameters_are_too_many() {
    let with = |chars: usize| {
        let value = "x".repeat(chars - 6);
        let children = format!("<Parameter name=\"ticket\" value=\"{value}\"/>");
        Document::read(&format!("<Response>{}</Response>", stream_with("", &children)))
    };
    assert!(with(499).is_ok());
    assert_eq!(with(500).unwrap_err().code, 12200);
}

#[test]
fn urls_are_absolute() {
    assert_eq!(fault("<Redirect>/resume</Redirect>"), 11100);
    assert_eq!(fault("<Redirect>ftp://a.example</Redirect>"), 11100);
}

#[test]
fn a_document_is_at_most_64_kilobytes() {
    let text = format!("<Response><Say>{}</Say></Response>", "x".repeat(65_536));
    assert_eq!(Document::read(&text).unwrap_err().code, 11750);
}

#[test]
fn somebody_is_dialled_by_number_or_by_sip_address() {
    let dial = |body: &str| {
        let text =
            format!("<Response><Dial action=\"https://a.example/r\">{body}</Dial></Response>");
        match Document::read(&text).map(|document| document.verbs) {
            Ok(verbs) => match verbs.as_slice() {
                [Verb::Dial { to, action: Some(_) }] => Ok(to.clone()),
                other => panic!("{other:?}"),
            },
            Err(fault) => Err(fault.code),
        }
    };
    assert_eq!(dial("+15551230003"), Ok("+15551230003".into()));
    assert_eq!(dial("<Number>+15551230003</Number>"), Ok("+15551230003".into()));
    assert_eq!(dial("<Sip>sip:desk@example.com</Sip>"), Ok("sip:desk@example.com".into()));
    assert_eq!(dial("<Sip>+15551230003</Sip>"), Err(13224));
    for number in ["", "sip:desk@example.com", "<Number>5551230003</Number>", "+0x"] {
        assert_eq!(dial(number), Err(13223), "{number}");
    }
    assert_eq!(dial("<Client>x</Client>"), Err(12200));
}
