//! Facts about words: translations, plurals, past tenses, rhymes, and what belongs to a class of things.

/// English word, Chinese word. One fact, in both directions.
pub(crate) const TRANSLATIONS: &[[&str; 2]] = &[
    ["dog", "狗"], ["cat", "猫"], ["horse", "马"], ["cow", "牛"], ["sheep", "羊"], ["pig", "猪"], ["bird", "鸟"], ["fish", "鱼"], ["tiger", "老虎"],
    ["snake", "蛇"], ["bear", "熊"], ["duck", "鸭子"], ["apple", "苹果"],
    ["banana", "香蕉"], ["pear", "梨"], ["peach", "桃子"], ["grape", "葡萄"], ["orange", "橙子"], ["lemon", "柠檬"], ["water", "水"],
    ["fire", "火"], ["mountain", "山"], ["river", "河"], ["sea", "海"], ["sky", "天空"], ["sun", "太阳"], ["moon", "月亮"],
    ["rain", "雨"], ["snow", "雪"], ["tree", "树"], ["flower", "花"], ["grass", "草"], ["stone", "石头"], ["house", "房子"],
    ["door", "门"], ["table", "桌子"], ["bed", "床"], ["book", "书"], ["pen", "笔"],
    ["school", "学校"], ["teacher", "老师"], ["friend", "朋友"], ["mother", "妈妈"], ["father", "爸爸"],
    ["king", "国王"], ["bread", "面包"],
    ["rice", "米饭"], ["tea", "茶"], ["milk", "牛奶"], ["egg", "鸡蛋"], ["meat", "肉"], ["salt", "盐"], ["sugar", "糖"], ["soup", "汤"],
    ["cake", "蛋糕"], ["hand", "手"], ["foot", "脚"], ["head", "头"], ["eye", "眼睛"], ["ear", "耳朵"],
    ["heart", "心"], ["car", "汽车"], ["train", "火车"], ["boat", "船"], ["bridge", "桥"], ["road", "路"], ["city", "城市"],
    ["clock", "钟"], ["hat", "帽子"], ["knife", "刀"],
    ["ball", "球"], ["song", "歌"], ["garden", "花园"],
    ["morning", "早上"],
];

/// Noun, plural.
pub(crate) const PLURALS: &[[&str; 2]] = &[
    ["dog", "dogs"], ["cat", "cats"], ["child", "children"], ["mouse", "mice"], ["foot", "feet"], ["tooth", "teeth"], ["man", "men"],
    ["woman", "women"], ["goose", "geese"], ["box", "boxes"], ["fox", "foxes"], ["bus", "buses"], ["glass", "glasses"], ["dish", "dishes"],
    ["watch", "watches"], ["baby", "babies"], ["story", "stories"],
    ["leaf", "leaves"], ["knife", "knives"], ["wolf", "wolves"], ["thief", "thieves"],
    ["potato", "potatoes"], ["tomato", "tomatoes"], ["book", "books"], ["tree", "trees"], ["house", "houses"],
    ["bird", "birds"], ["apple", "apples"],
    ["table", "tables"], ["friend", "friends"], ["hand", "hands"], ["egg", "eggs"],
    ["key", "keys"], ["girl", "girls"], ["king", "kings"], ["brush", "brushes"], ["peach", "peaches"],
    ["penny", "pennies"], ["puppy", "puppies"], ["ox", "oxen"],
];

/// Verb, past tense.
pub(crate) const PASTS: &[[&str; 2]] = &[
    ["go", "went"], ["see", "saw"], ["eat", "ate"], ["run", "ran"], ["come", "came"], ["give", "gave"], ["take", "took"], ["make", "made"],
    ["write", "wrote"], ["read", "read"], ["sing", "sang"], ["drink", "drank"], ["begin", "began"], ["fly", "flew"],
    ["grow", "grew"], ["know", "knew"], ["throw", "threw"], ["buy", "bought"], ["think", "thought"],
    ["catch", "caught"], ["teach", "taught"], ["sleep", "slept"], ["keep", "kept"], ["leave", "left"],
    ["find", "found"], ["sit", "sat"], ["speak", "spoke"], ["break", "broke"],
    ["ride", "rode"], ["build", "built"], ["tell", "told"], ["sell", "sold"],
    ["hear", "heard"], ["meet", "met"], ["fall", "fell"], ["forget", "forgot"], ["choose", "chose"],
    ["walk", "walked"], ["play", "played"], ["help", "helped"],
];

/// Rhyme families. A family is held out as a whole.
pub(crate) const RHYMES: &[&[&str]] = &[
    &["cat", "hat", "bat", "rat", "mat"],
    &["dog", "frog", "log", "hog"],
    &["cake", "lake", "snake", "rake"],
    &["tree", "bee", "knee", "pea"],
    &["mouse", "house", "blouse"],
    &["bear", "chair", "pear"],
    &["king", "ring", "wing", "string"],
    &["fish", "dish", "wish"],
    &["moon", "spoon", "balloon"],
    &["ball", "wall", "hall"],
    &["clock", "rock", "sock", "lock"],
    &["goat", "boat", "coat"],
    &["train", "chain", "brain"],
    &["bug", "mug", "rug", "jug"],
    &["hen", "pen", "den"],
    &["pig", "wig", "fig", "twig"],
    &["map", "cap", "nap", "trap"],
    &["fan", "pan", "man", "van"],
    &["car", "star", "jar", "guitar"],
    &["book", "hook", "cook", "brook"],
    &["snail", "nail", "tail", "sail"],
    &["shop", "mop", "top"],
    &["rose", "nose", "hose"],
    &["bone", "stone", "phone", "cone"],
    &["bed", "sled", "shed"],
    &["stick", "brick", "chick"],
    &["lamp", "stamp", "camp"],
    &["sheep", "jeep", "heap"],
];

/// Class of things (plural), its members; the same in Chinese, empty where there is none.
pub(crate) const CLASSES: &[(&str, &[&str], &str, &[&str])] = &[
    ("fruits", &["apple", "pear", "plum", "grape", "mango", "peach"], "水果", &["苹果", "梨", "桃子", "葡萄", "香蕉"]),
    ("vegetables", &["carrot", "potato", "onion", "cabbage", "spinach", "leek"], "蔬菜", &["白菜", "土豆", "菠菜", "萝卜", "黄瓜"]),
    ("colours", &["red", "blue", "green", "yellow", "purple", "brown"], "颜色", &["红色", "蓝色", "绿色", "黄色", "紫色"]),
    ("birds", &["crow", "owl", "eagle", "swan", "pigeon", "robin"], "鸟", &["乌鸦", "天鹅", "老鹰", "鸽子", "麻雀"]),
    ("tools", &["hammer", "saw", "axe", "shovel", "drill", "rake"], "工具", &["锤子", "锯子", "斧头", "铲子", "钳子"]),
    ("drinks", &["tea", "coffee", "milk", "juice", "water", "cocoa"], "饮料", &["茶", "咖啡", "果汁", "可乐", "豆浆"]),
    ("clothes", &["shirt", "coat", "dress", "skirt", "sock", "scarf"], "衣服", &["衬衫", "大衣", "裙子", "裤子", "毛衣"]),
    ("metals", &["iron", "gold", "silver", "copper", "tin", "lead"], "金属", &["铁", "金", "银", "铜", "锡"]),
    ("planets", &["Mars", "Venus", "Earth", "Saturn", "Jupiter", "Neptune"], "行星", &["火星", "金星", "地球", "土星", "木星"]),
    ("sports", &["tennis", "football", "hockey", "golf", "rugby", "boxing"], "运动", &["网球", "足球", "篮球", "游泳", "跑步"]),
    ("instruments", &["piano", "violin", "drum", "flute", "guitar", "harp"], "乐器", &["钢琴", "小提琴", "鼓", "笛子", "吉他"]),
    ("trees", &["oak", "pine", "elm", "maple", "birch", "willow"], "树", &["松树", "柳树", "枫树", "橡树", "榆树"]),
    ("flowers", &["rose", "tulip", "lily", "daisy", "violet", "poppy"], "花", &["玫瑰", "百合", "菊花", "荷花", "牡丹"]),
    ("vehicles", &["car", "bus", "truck", "train", "tram", "van"], "车", &["汽车", "火车", "卡车", "电车", "马车"]),
    ("months", &["May", "June", "July", "April", "March", "August"], "月份", &["一月", "三月", "五月", "六月", "八月"]),
    ("days", &["Monday", "Tuesday", "Friday", "Sunday", "Thursday", "Saturday"], "日子", &["星期一", "星期二", "星期三", "星期五", "星期六"]),
    ("pets", &["dog", "cat", "hamster", "parrot", "rabbit", "turtle"], "宠物", &["狗", "猫", "兔子", "乌龟", "金鱼"]),
    ("cities", &["Paris", "Rome", "Tokyo", "London", "Berlin", "Cairo"], "城市", &["北京", "巴黎", "东京", "罗马", "伦敦"]),
    ("toys", &["ball", "doll", "kite", "puzzle", "robot", "yoyo"], "玩具", &["皮球", "风筝", "积木", "娃娃", "陀螺"]),
    ("languages", &["French", "Chinese", "German", "Greek", "Latin", "Arabic"], "语言", &["中文", "英文", "法文", "德文", "日文"]),
    ("wild animals", &["lion", "tiger", "wolf", "bear", "zebra", "elephant"], "野兽", &["狮子", "老虎", "狼", "熊", "豹子"]),
    ("numbers", &["one", "two", "three", "four", "five", "six"], "数字", &["一", "二", "三", "四", "五"]),
    ("buildings", &["house", "school", "church", "castle", "hospital", "museum"], "建筑", &["学校", "医院", "教堂", "城堡", "车站"]),
    ("relatives", &["mother", "father", "sister", "brother", "aunt", "uncle"], "亲人", &["妈妈", "爸爸", "姐姐", "哥哥", "奶奶"]),
];

/// What a sentence can be about; the same in Chinese.
pub(crate) const HEROES: &[[&str; 2]] = &[
    ["dog", "狗"], ["cat", "猫"], ["horse", "马"], ["cow", "牛"], ["rabbit", "兔子"], ["monkey", "猴子"], ["tiger", "老虎"], ["bird", "小鸟"],
    ["duck", "鸭子"], ["bear", "熊"], ["lion", "狮子"], ["fox", "狐狸"], ["mouse", "老鼠"], ["teacher", "老师"], ["farmer", "农民"],
    ["doctor", "医生"], ["student", "学生"], ["king", "国王"], ["queen", "王后"], ["boy", "男孩"], ["girl", "女孩"], ["baker", "面包师"],
 ["baby", "宝宝"],
    ["cook", "厨师"], ["wolf", "狼"], ["pig", "猪"], ["owl", "猫头鹰"], ["robot", "机器人"], ["frog", "青蛙"],
    ["elephant", "大象"],
];

/// What they do.
pub(crate) const DEEDS: &[&str] = &[
    "sleeps under the tree", "runs in the park", "sits by the river", "walks to the village", "plays in the garden", "waits at the gate",
    "looks at the moon", "drinks some water", "eats in the kitchen", "lives near the forest", "dances in the rain", "sings in the morning",
    "works on the farm", "hides behind the house", "rests on the grass", "goes to the lake",
];

/// The same in Chinese.
pub(crate) const DEEDS_ZH: &[&str] = &[
    "在树下睡觉", "在公园里跑步", "坐在河边", "走到村子里", "在花园里玩", "在门口等", "看着月亮", "在喝水", "在厨房里吃饭", "住在森林旁边", "在雨中跳舞", "早上唱歌",
];
