//! Facts that are asked for: capitals, colours, animals, opposites, tools.
//!
//! A row is one fact, in English and, where there is a second half, in Chinese. Rows are held out as a whole: a country whose
//! capital is asked in the held-out tasks is never asked for in tuning, in either language, in either direction.

/// Country, capital, and both in Chinese.
pub(crate) const CAPITALS: &[[&str; 4]] = &[
    ["France", "Paris", "法国", "巴黎"],
    ["Japan", "Tokyo", "日本", "东京"],
    ["Italy", "Rome", "意大利", "罗马"],
    ["Spain", "Madrid", "西班牙", "马德里"],
    ["Peru", "Lima", "秘鲁", "利马"],
    ["Germany", "Berlin", "德国", "柏林"],
    ["China", "Beijing", "中国", "北京"],
    ["Russia", "Moscow", "俄国", "莫斯科"],
    ["Egypt", "Cairo", "埃及", "开罗"],
    ["Greece", "Athens", "希腊", "雅典"],
    ["Norway", "Oslo", "挪威", "奥斯陆"],
    ["Poland", "Warsaw", "波兰", "华沙"],
    ["Cuba", "Havana", "古巴", "哈瓦那"],
    ["Kenya", "Nairobi", "肯尼亚", "内罗毕"],
    ["Portugal", "Lisbon", "葡萄牙", "里斯本"],
    ["Ireland", "Dublin", "爱尔兰", "都柏林"],
    ["Austria", "Vienna", "奥地利", "维也纳"],
    ["Hungary", "Budapest", "匈牙利", "布达佩斯"],
    ["Finland", "Helsinki", "芬兰", "赫尔辛基"],
    ["Sweden", "Stockholm", "瑞典", "斯德哥尔摩"],
    ["Denmark", "Copenhagen", "丹麦", "哥本哈根"],
    ["Turkey", "Ankara", "土耳其", "安卡拉"],
    ["Iran", "Tehran", "伊朗", "德黑兰"],
    ["Iraq", "Baghdad", "伊拉克", "巴格达"],
    ["Thailand", "Bangkok", "泰国", "曼谷"],
    ["Vietnam", "Hanoi", "越南", "河内"],
    ["Canada", "Ottawa", "加拿大", "渥太华"],
    ["Australia", "Canberra", "澳大利亚", "堪培拉"],
    ["Chile", "Santiago", "智利", "圣地亚哥"],
    ["Belgium", "Brussels", "比利时", "布鲁塞尔"],
    ["Britain", "London", "英国", "伦敦"],
    ["Syria", "Damascus", "叙利亚", "大马士革"],
    ["Romania", "Bucharest", "罗马尼亚", "布加勒斯特"],
    ["Jordan", "Amman", "约旦", "安曼"],
    ["Morocco", "Rabat", "摩洛哥", "拉巴特"],
];

/// Thing with its article, colour, and both in Chinese.
pub(crate) const COLOURS: &[[&str; 4]] = &[
    ["a banana", "yellow", "香蕉", "黄色"],
    ["grass", "green", "草", "绿色"],
    ["snow", "white", "雪", "白色"],
    ["coal", "black", "煤", "黑色"],
    ["blood", "red", "血", "红色"],
    ["the sky", "blue", "天空", "蓝色"],
    ["a lemon", "yellow", "柠檬", "黄色"],
    ["a tomato", "red", "番茄", "红色"],
    ["a carrot", "orange", "胡萝卜", "橙色"],
    ["milk", "white", "牛奶", "白色"],
    ["chocolate", "brown", "巧克力", "棕色"],
    ["an elephant", "grey", "大象", "灰色"],
    ["a crow", "black", "乌鸦", "黑色"],
    ["a swan", "white", "天鹅", "白色"],
    ["a frog", "green", "青蛙", "绿色"],
    ["the sea", "blue", "大海", "蓝色"],
    ["a cherry", "red", "樱桃", "红色"],
    ["a cucumber", "green", "黄瓜", "绿色"],
    ["a pig", "pink", "猪", "粉色"],
    ["rice", "white", "米饭", "白色"],
    ["ink", "black", "墨水", "黑色"],
    ["a strawberry", "red", "草莓", "红色"],
    ["butter", "yellow", "黄油", "黄色"],
    ["a mouse", "grey", "老鼠", "灰色"],
    ["coffee", "brown", "咖啡", "棕色"],
    ["a polar bear", "white", "北极熊", "白色"],
    ["corn", "yellow", "玉米", "黄色"],
    ["salt", "white", "盐", "白色"],
    ["lavender", "purple", "薰衣草", "紫色"],
    ["a school bus", "yellow", "校车", "黄色"],
];

/// Animal, its young.
pub(crate) const BABIES: &[[&str; 2]] = &[
    ["dog", "puppy"], ["cat", "kitten"], ["cow", "calf"], ["horse", "foal"], ["sheep", "lamb"], ["goat", "kid"], ["pig", "piglet"],
    ["hen", "chick"], ["duck", "duckling"], ["goose", "gosling"], ["swan", "cygnet"], ["bear", "cub"], ["deer", "fawn"], ["kangaroo", "joey"],
    ["frog", "tadpole"], ["butterfly", "caterpillar"], ["rabbit", "bunny"],
 ["fish", "fry"],
];

/// Animal, what it does when it is heard.
pub(crate) const SOUNDS: &[[&str; 2]] = &[
    ["dog", "barks"], ["cat", "meows"], ["cow", "moos"], ["horse", "neighs"], ["sheep", "bleats"], ["pig", "grunts"], ["hen", "clucks"],
    ["duck", "quacks"], ["goose", "honks"], ["lion", "roars"], ["wolf", "howls"], ["frog", "croaks"], ["bee", "buzzes"], ["snake", "hisses"],
    ["mouse", "squeaks"], ["owl", "hoots"], ["crow", "caws"], ["donkey", "brays"], ["elephant", "trumpets"],
 ["bear", "growls"],
];

/// Opposites. A pair is one fact, whichever of the two is asked for.
pub(crate) const OPPOSITES: &[[&str; 4]] = &[
    ["hot", "cold", "热", "冷"], ["big", "small", "大", "小"], ["fast", "slow", "快", "慢"], ["high", "low", "高", "低"], ["long", "short", "长", "短"],
    ["old", "young", "老", "幼"], ["modern", "ancient", "新", "旧"], ["good", "bad", "好", "坏"], ["happy", "sad", "喜", "悲"], ["rich", "poor", "富", "穷"],
    ["open", "closed", "开", "关"], ["bright", "dark", "明", "暗"], ["heavy", "light", "重", "轻"], ["wet", "dry", "湿", "干"],
    ["strong", "weak", "强", "弱"], ["hard", "soft", "硬", "软"], ["deep", "shallow", "深", "浅"],
    ["early", "late", "早", "晚"], ["left", "right", "左", "右"], ["up", "down", "上", "下"], ["in", "out", "里", "外"],
    ["day", "night", "昼", "夜"], ["true", "false", "真", "假"], ["loud", "quiet", "闹", "静"], ["clean", "dirty", "净", "脏"],
    ["safe", "dangerous", "安", "危"], ["easy", "difficult", "易", "难"], ["cheap", "expensive", "贱", "贵"],
    ["first", "last", "首", "尾"], ["buy", "sell", "买", "卖"], ["win", "lose", "胜", "败"],
    ["love", "hate", "爱", "恨"], ["push", "pull", "推", "拉"], ["laugh", "cry", "笑", "哭"], ["ask", "answer", "问", "答"], ["come", "go", "来", "去"],
    ["more", "less", "多", "少"], ["brave", "afraid", "勇", "怯"], ["black", "white", "黑", "白"], ["summer", "winter", "夏", "冬"],
];

/// Tool with its article, what it is used for.
pub(crate) const TOOLS: &[[&str; 2]] = &[
    ["a hammer", "hit nails"], ["a saw", "cut wood"], ["a spoon", "eat soup"], ["a pen", "write letters"], ["a broom", "sweep the floor"],
    ["a key", "open a door"], ["a needle", "sew cloth"], ["a shovel", "dig holes"], ["an axe", "chop trees"], ["a comb", "tidy hair"],
    ["a towel", "dry hands"], ["a clock", "tell the time"], ["a kettle", "boil water"], ["an oven", "bake bread"], ["a lamp", "light a room"],
    ["a brush", "paint walls"], ["a camera", "take pictures"], ["an umbrella", "keep off rain"], ["a ladder", "climb up high"], ["a ruler", "measure lines"],
    ["a net", "catch fish"], ["a bucket", "carry water"], ["a pillow", "rest the head"], ["an iron", "press shirts"],
    ["a mop", "wash the floor"],
];

/// What a thing is made of.
pub(crate) const MATERIALS: &[[&str; 4]] = &[
    ["bread", "flour", "面包", "面粉"], ["wine", "grapes", "葡萄酒", "葡萄"], ["cheese", "milk", "奶酪", "牛奶"], ["paper", "wood", "纸", "木头"],
    ["glass", "sand", "玻璃", "沙子"], ["wool", "sheep hair", "羊毛", "羊的毛"], ["leather", "animal skin", "皮革", "动物皮"], ["tofu", "soy beans", "豆腐", "黄豆"],
    ["steel", "iron", "钢", "铁"], ["bricks", "clay", "砖", "泥土"], ["jam", "fruit", "果酱", "水果"],
    ["butter", "cream", "黄油", "奶油"], ["beer", "barley", "啤酒", "大麦"], ["chocolate", "cocoa", "巧克力", "可可"],
    ["plastic", "oil", "塑料", "石油"], ["candles", "wax", "蜡烛", "蜡"], ["ice", "water", "冰", "水"], ["jeans", "cotton", "牛仔裤", "棉花"],
    ["chips", "potatoes", "薯条", "土豆"], ["coins", "metal", "硬币", "金属"],
];
