//! What the sample shop sells.

/// Variants per product.
pub(super) const VARIANTS: usize = 3;

pub(super) struct Department {
    pub(super) name: &'static str,
    pub(super) things: [&'static str; 10],
    pub(super) materials: [&'static str; 8],
    pub(super) option: &'static str,
    pub(super) values: [&'static str; VARIANTS],
    /// Cheapest and dearest, in whole dollars.
    pub(super) prices: (u64, u64),
    pub(super) use_of: &'static str,
}

#[rustfmt::skip]
pub(super) const ADJECTIVES: [&str; 16] = [
    "Everyday", "Classic", "Coastal", "Nordic", "Harbour", "Weekend", "Heritage", "Simple", "Bold",
    "Quiet", "Rustic", "Modern", "Studio", "Evening", "Field", "Meadow",
];
#[rustfmt::skip]
pub(super) const VENDORS: [&str; 12] = [
    "Larkfield", "Harrow & Pine", "Nordlys", "Casa Verde", "Bluewater Goods", "Thistle & Co",
    "Atelier Moreau", "Stonebridge", "Fenwick Mill", "Juniper Lane", "Kestrel Works", "Saltmarsh",
];

#[rustfmt::skip]
pub(super) const DEPARTMENTS: [Department; 8] = [
    Department {
        name: "Clothing",
        things: [
            "Shirt", "Jumper", "Jacket", "Trousers", "Dress", "Skirt", "Cardigan", "Coat",
            "Waistcoat", "T-Shirt",
        ],
        materials: ["Linen", "Cotton", "Merino", "Denim", "Wool", "Silk", "Corduroy", "Jersey"],
        option: "Size",
        values: ["Small", "Medium", "Large"],
        prices: (19, 180),
        use_of: "Cut for every day, and easy to care for.",
    },
    Department {
        name: "Kitchen",
        things: [
            "Mug", "Bowl", "Plate", "Jug", "Teapot", "Tray", "Butter Dish", "Salad Bowl",
            "Espresso Cup", "Storage Jar",
        ],
        materials: [
            "Stoneware", "Porcelain", "Enamel", "Glass", "Ash", "Copper", "Terracotta", "Bamboo",
        ],
        option: "Colour",
        values: ["Cream", "Slate", "Sage"],
        prices: (6, 60),
        use_of: "Made to be used daily; most pieces go in the dishwasher.",
    },
    Department {
        name: "Garden",
        things: [
            "Planter", "Watering Can", "Trowel", "Bench", "Lantern", "Bird Bath", "Trellis",
            "Hose Reel", "Herb Box", "Side Table",
        ],
        materials: ["Teak", "Zinc", "Clay", "Rattan", "Steel", "Cedar", "Slate", "Cast Iron"],
        option: "Size",
        values: ["Compact", "Regular", "Large"],
        prices: (9, 320),
        use_of: "Stands outside all year round.",
    },
    Department {
        name: "Lighting",
        things: [
            "Table Lamp", "Floor Lamp", "Pendant", "Wall Light", "Desk Lamp", "Reading Light",
            "Night Light", "Spotlight", "Candle Holder", "Light Shade",
        ],
        materials: [
            "Brass", "Copper", "Opal Glass", "Rattan", "Oak", "Paper", "Concrete", "Chrome",
        ],
        option: "Colour",
        values: ["White", "Black", "Natural"],
        prices: (15, 260),
        use_of: "A warm light that does not dazzle.",
    },
    Department {
        name: "Jewellery",
        things: [
            "Necklace", "Bracelet", "Ring", "Earrings", "Pendant Chain", "Bangle", "Brooch",
            "Anklet", "Cufflinks", "Choker",
        ],
        materials: [
            "Silver", "Gold Vermeil", "Pearl", "Turquoise", "Leather", "Onyx", "Amber", "Moonstone",
        ],
        option: "Length",
        values: ["Short", "Medium", "Long"],
        prices: (12, 240),
        use_of: "Finished by hand and sent in a gift box.",
    },
    Department {
        name: "Bags",
        things: [
            "Tote", "Backpack", "Satchel", "Wallet", "Weekender", "Belt Bag", "Pouch", "Briefcase",
            "Messenger Bag", "Card Holder",
        ],
        materials: ["Leather", "Canvas", "Waxed Cotton", "Felt", "Suede", "Nylon", "Cork", "Hemp"],
        option: "Colour",
        values: ["Tan", "Navy", "Olive"],
        prices: (14, 280),
        use_of: "Room for what a day needs, with a pocket inside.",
    },
    Department {
        name: "Bedroom",
        things: [
            "Duvet Cover", "Pillowcase", "Blanket", "Throw", "Quilt", "Sheet", "Bedspread",
            "Cushion", "Dressing Gown", "Bed Runner",
        ],
        materials: [
            "Linen", "Percale", "Washed Cotton", "Alpaca", "Wool", "Bamboo", "Velvet", "Flannel",
        ],
        option: "Size",
        values: ["Single", "Double", "King"],
        prices: (18, 210),
        use_of: "Grows softer with every wash.",
    },
    Department {
        name: "Stationery",
        things: [
            "Notebook", "Diary", "Pen Case", "Desk Pad", "Card Set", "Letter Opener", "Bookend",
            "Sketchbook", "Planner", "Photo Album",
        ],
        materials: [
            "Kraft", "Leather", "Recycled Paper", "Cloth", "Walnut", "Brass", "Felt", "Birch",
        ],
        option: "Format",
        values: ["A6", "A5", "A4"],
        prices: (4, 70),
        use_of: "For those who still write by hand.",
    },
];
