//! Answers in another language than the question, where nobody asked for one.
//!
//! Scripts tell most pairs apart. For English, Spanish, French, German, Italian and Portuguese, which share one, the
//! share of each language's little words does. Both err on the side of silence: a prompt that names any language, or asks
//! for a translation, or itself holds some of the answer's script, is never questioned.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use super::words::{clip, excerpt, without_code};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    Latin,
    Han,
    Kana,
    Hangul,
    Cyrillic,
    Greek,
    Arabic,
    Hebrew,
    Devanagari,
    Bengali,
    Tamil,
    Thai,
    Other,
}

const SCRIPTS: usize = 13;

fn script(c: char) -> Option<Script> {
    Some(match c {
        'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}' => Script::Latin,
        '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}' => Script::Han,
        '\u{3041}'..='\u{309f}' | '\u{30a1}'..='\u{30fa}' | '\u{30fc}'..='\u{30ff}' | '\u{ff66}'..='\u{ff9f}' => Script::Kana,
        '\u{ac00}'..='\u{d7a3}' | '\u{1100}'..='\u{11ff}' | '\u{3130}'..='\u{318f}' => Script::Hangul,
        '\u{400}'..='\u{52f}' => Script::Cyrillic,
        '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}' => Script::Greek,
        '\u{600}'..='\u{6ff}' | '\u{750}'..='\u{77f}' | '\u{fb50}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}' => Script::Arabic,
        '\u{590}'..='\u{5ff}' => Script::Hebrew,
        '\u{900}'..='\u{97f}' => Script::Devanagari,
        '\u{980}'..='\u{9ff}' => Script::Bengali,
        '\u{b80}'..='\u{bff}' => Script::Tamil,
        '\u{e00}'..='\u{e7f}' => Script::Thai,
        c if c.is_alphabetic() => Script::Other,
        _ => return None,
    })
}

fn name(s: Script) -> &'static str {
    match s {
        Script::Latin => "Latin letters",
        Script::Han => "Chinese characters",
        Script::Kana => "Japanese kana",
        Script::Hangul => "Korean letters",
        Script::Cyrillic => "Cyrillic letters",
        Script::Greek => "Greek letters",
        Script::Arabic => "Arabic letters",
        Script::Hebrew => "Hebrew letters",
        Script::Devanagari => "Devanagari letters",
        Script::Bengali => "Bengali letters",
        Script::Tamil => "Tamil letters",
        Script::Thai => "Thai letters",
        Script::Other => "letters of another script",
    }
}

#[derive(Default)]
struct Letters {
    counts: [usize; SCRIPTS],
    all: usize,
}

impl Letters {
    fn of(text: &str) -> Self {
        let mut letters = Self::default();
        for s in text.chars().filter_map(script) {
            if let Some(n) = letters.counts.get_mut(s as usize) {
                *n += 1;
            }
            letters.all += 1;
        }
        letters
    }

    fn count(&self, s: Script) -> usize {
        self.counts.get(s as usize).copied().unwrap_or(0)
    }

    fn main(&self) -> Option<Script> {
        const ALL: [Script; SCRIPTS] = [
            Script::Latin,
            Script::Han,
            Script::Kana,
            Script::Hangul,
            Script::Cyrillic,
            Script::Greek,
            Script::Arabic,
            Script::Hebrew,
            Script::Devanagari,
            Script::Bengali,
            Script::Tamil,
            Script::Thai,
            Script::Other,
        ];
        ALL.into_iter().max_by_key(|s| self.count(*s)).filter(|s| self.count(*s) > 0)
    }
}

/// What is wrong with the answer's language, given all that was said before (`context`) and the question itself.
pub(super) fn mismatch(context: &str, question: &str, answer: &str) -> Option<String> {
    if names_a_language(clip(context)) {
        return None;
    }
    let plain = without_code(clip(answer));
    let asked = Letters::of(clip(question));
    let given = Letters::of(&plain);
    let (from, to) = (asked.main()?, given.main()?);
    if asked.all < 4 || given.all < 12 {
        return None;
    }
    let found = || format!("a question in {} answered in {}: “{}”", name(from), name(to), excerpt(&plain));
    // Japanese is written in two scripts, of which one is Chinese too.
    if from == Script::Kana && to == Script::Han || from == Script::Han && to == Script::Kana || from == Script::Han && to == Script::Han {
        let asked_kana = asked.count(Script::Kana) * 10 >= asked.all;
        let given_kana = given.count(Script::Kana) * 10 >= given.all;
        if asked_kana && given.count(Script::Kana) == 0 && given.all >= 30 {
            return Some(format!("a question in Japanese answered in Chinese: “{}”", excerpt(&plain)));
        }
        if asked.count(Script::Kana) == 0 && given_kana && given.all >= 20 {
            return Some(format!("a question in Chinese answered in Japanese: “{}”", excerpt(&plain)));
        }
        return None;
    }
    if from == to {
        return if from == Script::Latin { latin_mismatch(question, &plain) } else { None };
    }
    let strange = given.count(to) * 5 >= given.all * 4 && asked.count(to) * 20 < asked.all;
    if !strange {
        return None;
    }
    // Names, terms, formulae and code are in Latin letters everywhere; only running text is a language.
    if to == Script::Latin && (!is_running_text(&plain) || context.contains("```")) {
        return None;
    }
    Some(found())
}

/// Languages that [`share`] knows: ISO 639-1 codes, those of [`PROFILES`] first and in their order.
const CODES: [(&str, Script); 17] = [
    ("en", Script::Latin),
    ("es", Script::Latin),
    ("fr", Script::Latin),
    ("de", Script::Latin),
    ("it", Script::Latin),
    ("pt", Script::Latin),
    ("zh", Script::Han),
    ("ja", Script::Kana),
    ("ko", Script::Hangul),
    ("ru", Script::Cyrillic),
    ("el", Script::Greek),
    ("ar", Script::Arabic),
    ("he", Script::Hebrew),
    ("hi", Script::Devanagari),
    ("bn", Script::Bengali),
    ("ta", Script::Tamil),
    ("th", Script::Thai),
];

/// The codes that [`share`] knows.
pub(crate) fn codes() -> impl Iterator<Item = &'static str> {
    CODES.iter().map(|(code, _)| *code)
}

/// How much of a text is in a language: the share of its letters that are of the language's script; 0 where the little words of another language of
/// that script outnumber its own, or where kana tell Japanese from Chinese. A text without letters is in none. `None` for a code that is not known.
pub(crate) fn share(text: &str, code: &str) -> Option<f64> {
    let (i, script) = CODES.iter().enumerate().find(|(_, (known, _))| *known == code).map(|(i, (_, script))| (i, *script))?;
    let letters = Letters::of(clip(text));
    let (all, kana) = (letters.all.max(1) as f64, letters.count(Script::Kana));
    let own = match script {
        Script::Kana if kana == 0 => 0,
        Script::Kana => kana + letters.count(Script::Han),
        Script::Han if kana > 0 => 0,
        other => letters.count(other),
    };
    if script == Script::Latin {
        let profile = Profile::of(clip(text));
        let hits = profile.hits.get(i).copied().unwrap_or(0);
        if profile.hits.iter().any(|&other| other > hits) {
            return Some(0.0);
        }
    }
    Some(own as f64 / all)
}

/// The language of [`share`] that a text is most in, where it is in one at all.
pub(crate) fn guess(text: &str) -> Option<&'static str> {
    let shares = codes().filter_map(|code| Some((code, share(text, code)?)));
    let best = shares.fold(("", 0.0), |best, next| if next.1 > best.1 { next } else { best });
    (best.1 > 0.5).then_some(best.0)
}

/// Little words by language, chosen to be rare in the others.
const PROFILES: [(&str, &str); 6] = [
    ("English", "the of and to is that with for are this it be was by which from have you your can not they what how"),
    ("Spanish", "el los las del que y en una por con para es su como más pero sus este muy lo son también cuál qué"),
    ("French", "le les des est et une dans qui pour pas sur au avec ce vous sont il nous plus aux cette être du je"),
    ("German", "der die das und ist nicht ein eine den von mit dem auf für sich auch des werden zu sie wie im oder sind"),
    ("Italian", "il di che è un per della sono gli nel con alla dei delle questo più anche ma come lo una si del ha"),
    ("Portuguese", "o os da do em um uma não com que para é mais dos das são ao pela pelo você também seu sua na"),
];

/// Each little word, with a bit for every language that has it.
fn little_words() -> &'static HashMap<&'static str, u8> {
    static WORDS: OnceLock<HashMap<&'static str, u8>> = OnceLock::new();
    WORDS.get_or_init(|| {
        let mut words = HashMap::new();
        for (i, (_, list)) in PROFILES.iter().enumerate() {
            for word in list.split(' ') {
                *words.entry(word).or_insert(0) |= 1 << i;
            }
        }
        words
    })
}

struct Profile {
    words: usize,
    hits: [usize; PROFILES.len()],
}

impl Profile {
    fn of(text: &str) -> Self {
        let mut profile = Self { words: 0, hits: [0; PROFILES.len()] };
        let languages = little_words();
        for word in text.to_lowercase().split(|c: char| !c.is_alphabetic() && c != '\'').filter(|w| !w.is_empty()) {
            profile.words += 1;
            let set = languages.get(word).copied().unwrap_or(0);
            for (i, hits) in profile.hits.iter_mut().enumerate() {
                *hits += usize::from(set >> i & 1 == 1);
            }
        }
        profile
    }

    /// The language whose little words are common and clearly more so than any other's.
    fn clear(&self) -> Option<usize> {
        let (best, hits) = self.hits.iter().copied().enumerate().max_by_key(|(_, hits)| *hits)?;
        let second = self.hits.iter().copied().enumerate().filter(|(i, _)| *i != best).map(|(_, hits)| hits).max().unwrap_or(0);
        (hits * 5 >= self.words && second * 2 <= hits && hits >= 3).then_some(best)
    }
}

fn is_running_text(text: &str) -> bool {
    let profile = Profile::of(text);
    let share = if profile.words >= 12 { 6 } else { 4 };
    profile.words >= 8 && profile.hits.iter().any(|hits| hits * share >= profile.words)
}

fn latin_mismatch(question: &str, answer: &str) -> Option<String> {
    let (asked, given) = (Profile::of(clip(question)), Profile::of(answer));
    if asked.words < 5 || given.words < 12 {
        return None;
    }
    let (from, to) = (asked.clear()?, given.clear()?);
    // Some of the answer's words in the question make it a bilingual one, and some of the question's in the answer too.
    let foreign_in_question = asked.hits.get(to).copied().unwrap_or(0);
    let familiar_in_answer = given.hits.get(from).copied().unwrap_or(0);
    if from == to || foreign_in_question * 10 > asked.words || familiar_in_answer * 12 > given.words {
        return None;
    }
    let language = |i: usize| PROFILES.get(i).map_or("", |(name, _)| *name);
    Some(format!("a question in {} answered in {}: “{}”", language(from), language(to), excerpt(answer)))
}

/// Whether something said before the answer speaks of translating, or of any language.
fn names_a_language(text: &str) -> bool {
    const WORDS: &str = "translate translates translated translating translation translations translator language languages multilingual bilingual english \
        chinese mandarin cantonese japanese korean russian ukrainian arabic hebrew greek hindi sanskrit bengali tamil urdu persian farsi \
        thai spanish french german italian portuguese latin turkish polish dutch vietnamese indonesian bulgarian serbian kanji kana \
        hiragana katakana hangul cyrillic pinyin romanize transliterate transliteration traduce traducir traduire traduis traduisez \
        übersetze übersetzen traduci inglés";
    const ANYWHERE: &str = "翻译 翻譯 译 譯 英语 英文 英語 中文 汉语 漢語 普通话 国语 日语 日文 日語 日本語 韩语 韩文 法语 法文 德语 德文 俄语 \
        俄文 西班牙语 西班牙文 葡萄牙语 意大利语 阿拉伯语 拉丁 希腊语 外语 双语 拼音 英訳 和訳 ロシア語 フランス語 ドイツ語 \
        スペイン語 イタリア語 ポルトガル語 アラビア語 ギリシャ語 タイ語 中国語 韓国語 俄語 法語 德語 韓語 粤语 粵語 文言文 世界语 \
        梵文 한국어 영어 중국어 일본어 번역 перевед перевод английск русск ترجم inglês \
        anglais";
    static SET: OnceLock<HashSet<&'static str>> = OnceLock::new();
    let words = SET.get_or_init(|| WORDS.split_whitespace().collect());
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_alphabetic()).any(|word| words.contains(word))
        || !lower.is_ascii() && ANYWHERE.split_whitespace().any(|word| lower.contains(word))
}
